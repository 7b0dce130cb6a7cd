"""The weaknesses of a made model: looked for beside its source, kept in its receipt and shown in its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, ReferenceNotFound
from smidgen.models.files import atomic_write
from smidgen.progress import Progress, silent
from smidgen.recipe import handover, receipt

if TYPE_CHECKING:
    from smidgen.evaluate.examine import Examination
    from smidgen.evaluate.windows import Text

FINDINGS, SETTING = "findings", "findings_setting"
"""Where a receipt has what was found, and how to find it again."""


@dataclass(frozen=True)
class Setting:
    """How weaknesses are looked for.

    Attributes:
        only: Names of weaknesses; all where empty.
        windows: Windows of the text.
        longest: Most tokens of context.
        seed: Of everything drawn.
    """

    only: tuple[str, ...] = ()
    windows: int = 8
    longest: int = 4096
    seed: int = 0

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Setting:
        """Read a receipt's setting.

        Raises:
            DamagedFile: It is not what `keep` wrote.
        """
        try:
            said = dict(content[SETTING])
            return cls(tuple(said.pop("only")), **said)
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedFile(f"{receipt.NAME} does not say how its findings were found: {error!r}.") from error


def look(
    folder: Path,
    setting: Setting,
    *,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> Examination:
    """Look for the weaknesses of a made model beside its source, on the held-out text that is kept beside it.

    Args:
        folder: What `make` wrote.
        setting: How to look.
        threads: Threads to compute with; the physical cores where None.
        offline: Take the source only from this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: The folder holds no receipt, model or text.
        DamagedFile: The receipt or the text cannot be read or was changed.
    """
    from smidgen.evaluate.examine import examine
    from smidgen.evaluate.examined import Subjects

    content = receipt.read(folder)
    text = measured_text(folder, content["quality"][0])
    (found,) = examine(
        str(folder / handover.MODEL),
        against=content["source"]["name"],
        subjects=Subjects(text, None, setting.windows, setting.longest, setting.seed),
        only=setting.only,
        threads=threads,
        offline=offline,
        progress=progress,
    )
    return found


def keep(folder: Path, found: Examination, setting: Setting) -> None:
    """Write what was found into a made folder's receipt and report, in the place of what was found before.

    Raises:
        ReferenceNotFound: The folder holds no receipt.
        DamagedFile: The receipt cannot be read.
    """
    from smidgen.evaluate.report import render

    names = [each.name for each in found.findings]
    content = receipt.read(folder) | {
        FINDINGS: [each.to_dict() for each in found.findings],
        SETTING: asdict(setting) | {"only": names},
    }
    atomic_write(folder / handover.REPORT, render(content))
    atomic_write(folder / receipt.NAME, json.dumps(content, indent=1) + "\n")


def measured_text(folder: Path, quality: Mapping[str, Any]) -> Text:
    """Return the text that an entry of a receipt's ``quality`` was measured on.

    Raises:
        ReferenceNotFound: It is gone.
        DamagedFile: It was changed.
    """
    from smidgen.evaluate.windows import Text

    path = handover.evidence_of(folder, quality["text"])
    if not path.is_file():
        raise ReferenceNotFound(f"The measured text {path} is gone.", remedy="Make the model again.")
    text = Text(quality["text"], path.read_bytes().decode("utf-8"))
    if text.sha256 != quality["sha256"]:
        raise DamagedFile(f"{path} is not the text that was measured.", remedy="Make the model again.")
    return text


def checks_of(written: Sequence[Mapping[str, Any]], now: Examination) -> list[dict[str, Any]]:
    """Hold findings against those of a receipt: a figure may move within its interval, and must still be measurable.

    Raises:
        DamagedFile: The receipt's findings cannot be read.
    """
    from smidgen.errors import InvalidInput
    from smidgen.evaluate.findings import Finding

    try:
        before = [Finding.from_dict(each) for each in written]
    except InvalidInput as error:
        raise DamagedFile(f"{receipt.NAME} cannot be read: {error.message}") from error
    today = {each.name: each.value for each in now.findings}
    checks = []
    for finding in before:
        if finding.value is None or finding.low is None or finding.high is None:
            continue
        value = today[finding.name]
        checks.append(
            {
                "name": f"weaknesses: {finding.name}",
                "receipt": finding.value,
                "measured": value,
                "tolerance": max(finding.high - finding.value, finding.value - finding.low),
                "ok": value is not None and finding.low <= value <= finding.high,
            }
        )
    return checks
