"""Which texts a job calibrates on and which it measures on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from smidgen.data import builtin
from smidgen.data.curation import Curation, Datasheet, describe
from smidgen.data.loading import load
from smidgen.data.rows import Corpus
from smidgen.data.split import split, without_overlap


@dataclass(frozen=True)
class CalibrationData:
    """The texts of one job.

    Attributes:
        calibration: For statistics, training and the vocabulary.
        held_out: Of the same kind, for measurement; shares no passages with ``calibration``.
        general: General prose for measurement, always the built-in held-out part.
        stand_in: Whether the built-in text stands in for the user's; ``held_out`` then is ``general``.
        warnings: What the user should know.
        datasheet: What was kept of the user's data and why; None for the built-in text.
    """

    calibration: Corpus
    held_out: Corpus
    general: Corpus
    stand_in: bool
    warnings: tuple[str, ...] = ()
    datasheet: Datasheet | None = None


def resolve(
    for_data: str | Path | None,
    *,
    offline: bool = False,
    held_out_share: float = 0.1,
    seed: int = 0,
    curation: Curation | None = None,
) -> CalibrationData:
    """Find the texts for a job.

    Args:
        for_data: The user's data as `smidgen.data.loading.load` takes them, or None for the built-in text.
        offline: Never use the network.
        held_out_share: Share of the user's data kept aside for measurement.
        seed: Another seed keeps other rows aside.
        curation: What is removed from the user's data; the defaults where None.

    Raises:
        SmidgenError: The data cannot be read, or are too small to divide.

    Example:
        >>> resolve(None).stand_in
        True
    """
    general = builtin.held_out()
    if for_data is None:
        return CalibrationData(builtin.calibration(), general, general, True, (builtin.STAND_IN_WARNING,))
    corpus, datasheet = describe(load(for_data, offline=offline), curation or Curation())
    calibration, held_out = split(corpus, held_out_share=held_out_share, seed=seed)
    warnings = [*corpus.warnings, *(note for note in held_out.warnings if note not in corpus.warnings)]
    unseen = without_overlap(general, calibration)
    if not unseen.rows:
        warnings.append("Your data hold the general text as well, so its figures are not of unseen text.")
        unseen = general
    elif len(unseen.rows) < len(general.rows):
        warnings.append("Passages of the general text that your data hold as well were left out of it.")
    return CalibrationData(calibration, held_out, unseen, False, tuple(warnings), datasheet)
