"""Finds a learning rate and how often to read the data, by short trainings on a few of the rows.

The rate climbs in steps of about a half order of magnitude, in the direction in which the held-out loss falls.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.models.files import atomic_write

RATES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
STARTS = {"full": 1e-4, "adapter": 1e-3}
MOST_EPOCHS = 4
BATCHES = 8
"""Batches of rows that a trial reads in each epoch."""
HELD_OUT_ROWS = 16


@dataclass(frozen=True)
class Trial:
    """One short training.

    Attributes:
        learning_rate: Its peak.
        held_out: Held-out loss before training and after each epoch; not a number where training broke down.
    """

    learning_rate: float
    held_out: tuple[float, ...]

    @property
    def best(self) -> float:
        """Lowest held-out loss after at least one epoch."""
        return min((loss for loss in self.held_out[1:] if math.isfinite(loss)), default=math.inf)

    @property
    def epochs(self) -> int:
        """Epochs after which it was lowest, at least 1."""
        return next((epoch for epoch, loss in enumerate(self.held_out) if epoch and loss == self.best), 1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"learning_rate": self.learning_rate, "held_out": list(self.held_out)}


Try = Callable[[float], "tuple[float, ...]"]
"""Trains shortly at a rate and returns the held-out losses."""


def climb(attempt: Try, start: float, rates: tuple[float, ...] = RATES) -> list[Trial]:
    """Try rates upward from a start while the loss falls, and downward where the first step up made it rise.

    Returns:
        Every trial, the best first.

    Raises:
        InvalidInput: Training broke down at every rate that was tried.

    Example:
        >>> trials = climb(lambda rate: (9.0, abs(math.log10(rate) + 4)), 1e-5)
        >>> [trial.learning_rate for trial in trials]
        [0.0001, 0.0003, 3e-05, 1e-05]
    """
    place = min(range(len(rates)), key=lambda index: abs(math.log(rates[index] / start)))
    trials = {place: Trial(rates[place], attempt(rates[place]))}
    for step in (1, -1):
        at = place
        broken = not math.isfinite(trials[at].best)
        while 0 <= at + step < len(rates) and not (broken and step > 0):
            trials[at + step] = Trial(rates[at + step], attempt(rates[at + step]))
            if math.isfinite(trials[at].best) and trials[at + step].best >= trials[at].best:
                break
            at += step
        if at != place:
            break
    found = sorted(trials.values(), key=lambda trial: trial.best)
    if not math.isfinite(found[0].best):
        raise InvalidInput("Training broke down at every learning rate.", remedy="Give a --learning-rate below 1e-6.")
    return found


class Notes:
    """The trials made so far, in a file, so that none is made again after a kill.

    Args:
        path: The file; None keeps nothing.
        key: Says what is trained on what.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        self.known: dict[str, list[float]] = {}
        try:
            record = json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}
            self.known = dict(record["trials"]) if record.get("key") == key else {}
        except (ValueError, KeyError, TypeError, AttributeError):
            self.known = {}

    def remembering(self, attempt: Try) -> Try:
        """Return the same attempt, made only where its result is not known."""

        def once(rate: float) -> tuple[float, ...]:
            if repr(rate) not in self.known:
                self.known[repr(rate)] = list(attempt(rate))
                if self.path is not None:
                    atomic_write(self.path, json.dumps({"key": self.key, "trials": self.known}))
            return tuple(self.known[repr(rate)])

        return once
