"""Measures a receipt again: does the model still do what was written down?

A figure has drifted where it lies outside the 95% interval that it was written with. One that moved within it is named
as moved: on the same file and text that takes another engine or processor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.export.runnable import gguf_of
from smidgen.models.files import projector_beside, sha256_of
from smidgen.progress import Event, Progress, silent
from smidgen.recipe import handover, receipt, shortcomings

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel

TOLERANCE = 0.02
"""Share by which a figure may move at least: what other processors and thread counts change in the last bits."""

SLOWER = 0.1
"""Share of the slowest run in the receipt by which speed may fall, and of its memory by which memory may grow."""


@dataclass(frozen=True)
class Verification:
    """What measuring again found.

    Attributes:
        folder: The folder that was measured.
        checks: One entry per figure: ``name receipt measured tolerance ok``.
        notes: What could not be held against the receipt, and why.
    """

    folder: Path
    checks: list[dict[str, Any]]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no figure moved beyond its tolerance."""
        return all(check["ok"] for check in self.checks)


def verify(
    folder: str | Path, *, speed: bool = False, offline: bool = False, progress: Progress = silent
) -> Verification:
    """Measure the figures of a made folder again, on the texts kept beside it.

    The file's digest; for every text the divergence, the share of same top tokens and the perplexity's ratio; and the
    weaknesses, where the receipt has them.

    Args:
        folder: What `make` wrote.
        speed: Measure speed and memory too, where this is the machine that the receipt was written on.
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
    checks += _vision(result, content)
    source = _source(content, offline, progress)
    for written in content["quality"]:
        checks += _again(place, source, result, written, content["machine"]["threads"], progress)
    checks += _shortcomings(place, content, offline, progress)
    timed, notes = _speed(result, content, progress) if speed else ([], ())
    return Verification(place, checks + timed, notes)


def _vision(result: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Check the digest of what reads images, where the receipt has it."""
    written = content.get("vision")
    if not written:
        return []
    path = projector_beside(result)
    if not path.is_file():
        raise ReferenceNotFound(f"{path.parent} holds no {path.name}, with which the model reads images.")
    digest, expected = sha256_of(path), written["sha256"]
    check = {"name": f"{path.name}: sha256", "receipt": expected, "measured": digest, "tolerance": None}
    return [check | {"ok": digest == expected}]


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
    from smidgen.recipe.proof import kept_tokens_of

    text = shortcomings.measured_text(place, written)
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
        tolerance = max(_half_interval(written, name), TOLERANCE * abs(before), 1e-4)
        yield {
            "name": f"{written['text']}: {name}",
            "receipt": before,
            "measured": now,
            "tolerance": tolerance,
            "ok": abs(now - before) <= tolerance,
        }


def _half_interval(written: Mapping[str, Any], name: str) -> float:
    """Return how far the 95% interval of a receipt's figure reaches to either side; 0 where it does not say."""
    from smidgen.evaluate.findings import Z, share_interval

    if name == "same_top":
        tokens = int(written.get("tokens") or 0)
        if not tokens:
            return 0.0
        low, high = share_interval(round(tokens * float(written[name])), tokens)
        return (high - low) / 2
    return Z * float(written.get(f"{name}_se") or 0.0)


def _shortcomings(place: Path, content: Mapping[str, Any], offline: bool, progress: Progress) -> list[dict[str, Any]]:
    """Look again for the weaknesses that the receipt names."""
    written = content.get(shortcomings.FINDINGS)
    if not written:
        return []
    setting = shortcomings.Setting.of(content)
    threads = content["machine"]["threads"]
    found = shortcomings.look(place, setting, threads=threads, offline=offline, progress=progress)
    return shortcomings.checks_of(written, found)


def _speed(
    result: Path, content: Mapping[str, Any], progress: Progress
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Measure speed and memory again, and hold them against a receipt of the same machine."""
    from smidgen.evaluate.speed import measure_speed

    written, before = content.get("speed"), content["machine"]
    today = receipt.describe_machine(before["threads"])
    if not isinstance(written, dict) or "tg128" not in written:
        return [], ("The receipt has no speed to hold this machine's against.",)
    if any(today[name] != before.get(name) for name in ("processor", "versions")):
        return [], ("Speed was not measured: the receipt was written on another machine or by another engine.",)
    measured = measure_speed(result, threads=before["threads"], progress=progress)
    checks = []
    for name, rate in (("tg128", measured.tg128), ("pp512", measured.pp512)):
        least = (1 - SLOWER) * float(written[name]["low"])
        checks.append(
            {
                "name": f"speed: {name}",
                "receipt": float(written[name]["median"]),
                "measured": rate.median,
                "tolerance": max(0.0, float(written[name]["median"]) - least),
                "ok": rate.median >= least or measured.noisy,
            }
        )
    peak = int(written["peak_rss_bytes"])
    grown = {"name": "memory: peak", "receipt": peak, "measured": measured.peak_rss_bytes, "tolerance": SLOWER * peak}
    checks.append(grown | {"ok": measured.peak_rss_bytes <= (1 + SLOWER) * peak})
    noisy = (f"The machine was noisy (runs {measured.noise:.0%} apart), so speed was not judged.",)
    return checks, noisy if measured.noisy else ()
