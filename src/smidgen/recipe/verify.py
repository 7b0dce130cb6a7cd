"""Measures a receipt again: does the model still do what was written down?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound
from smidgen.export.runnable import gguf_of
from smidgen.models.files import sha256_of
from smidgen.progress import Event, Progress, silent
from smidgen.recipe import handover, receipt

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel

TOLERANCE = 0.02
"""Share by which a figure may move: what other processors and thread counts change in the last bits."""


@dataclass(frozen=True)
class Verification:
    """What measuring again found.

    Attributes:
        folder: The folder that was measured.
        checks: One entry per figure: ``name receipt measured tolerance ok``.
    """

    folder: Path
    checks: list[dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether no figure moved beyond its tolerance."""
        return all(check["ok"] for check in self.checks)


def verify(folder: str | Path, *, offline: bool = False, progress: Progress = silent) -> Verification:
    """Measure the figures of a made folder again, on the texts kept beside it.

    The file's digest and, for every text, the divergence, the share of same top tokens and the perplexity's ratio.

    Args:
        folder: What `make` wrote.
        offline: Take the source only from this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: The folder holds no receipt, or a file that it speaks of is gone.
        DamagedFile: The receipt or a text cannot be read or was changed.
        InvalidInput: The source is not the one the receipt was written for.
    """
    place = Path(folder)
    content = receipt.read(place)
    result = place / handover.MODEL
    if not result.is_file():
        raise ReferenceNotFound(f"{place} holds no {handover.MODEL}.")
    progress(Event("checking the file"))
    digest, expected = sha256_of(result), content["result"]["sha256"]
    checks: list[dict[str, Any]] = [
        {"name": "sha256", "receipt": expected, "measured": digest, "tolerance": None, "ok": digest == expected}
    ]
    source = _source(content, offline, progress)
    for written in content["quality"]:
        checks += _again(place, source, result, written, content["machine"]["threads"], progress)
    return Verification(place, checks)


def _source(content: Mapping[str, Any], offline: bool, progress: Progress) -> Path:
    """Return the source's GGUF, written afresh from safetensors where it was none."""
    from smidgen.models.reference import parse
    from smidgen.models.sources import fetch
    from smidgen.models.store import Store

    store, wanted = Store(), content["source"]
    local: LocalModel = fetch(parse(wanted["name"], store), store, offline=offline, progress=progress)
    if local.sha256 != wanted["sha256"]:
        raise InvalidInput(f"{wanted['name']} has changed: its sha256 is not the one in the receipt.")
    return gguf_of(local, store, progress=progress)


def _again(
    place: Path, source: Path, result: Path, written: Mapping[str, Any], threads: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    from smidgen.evaluate.quality import compare_files
    from smidgen.evaluate.windows import Text
    from smidgen.recipe.proof import kept_tokens_of

    path = handover.evidence_of(place, written["text"])
    if not path.is_file():
        raise ReferenceNotFound(f"The measured text {path} is gone.", remedy="Make the model again.")
    text = Text(written["text"], path.read_bytes().decode("utf-8"))
    if text.sha256 != written["sha256"]:
        raise DamagedFile(f"{path} is not the text that was measured.", remedy="Make the model again.")
    measured = compare_files(
        source,
        result,
        text,
        windows=written["windows"],
        length=written["length"],
        kept_tokens=kept_tokens_of(source, result),
        threads=threads,
        progress=progress,
    )
    for name in ("kl_mean", "same_top", "ppl_ratio"):
        before, now = float(written[name]), float(getattr(measured, name))
        tolerance = max(TOLERANCE * abs(before), 1e-4)
        ok = abs(now - before) <= tolerance
        yield {
            "name": f"{written['text']}: {name}",
            "receipt": before,
            "measured": now,
            "tolerance": tolerance,
            "ok": ok,
        }
