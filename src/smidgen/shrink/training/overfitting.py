"""Watches the held-out loss: records both curves, remembers the best weights, says when to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Curves:
    """Both curves of a training, as (steps done, loss).

    Attributes:
        training: Mean training loss since the point before.
        held_out: Loss on held-out rows; the first point is before training.
        best_step: Steps done where the held-out loss was lowest; the weights returned are those.
        stopped_early: Whether the watch ended the training.
    """

    training: tuple[tuple[int, float], ...] = ()
    held_out: tuple[tuple[int, float], ...] = ()
    best_step: int = 0
    stopped_early: bool = False

    @property
    def gap(self) -> float | None:
        """Held-out loss less training loss at the best step, None where either is missing.

        Example:
            >>> round(Curves(((10, 1.0),), ((0, 3.0), (10, 1.25)), best_step=10).gap, 3)
            0.25
        """
        held_out, training = dict(self.held_out).get(self.best_step), dict(self.training).get(self.best_step)
        return None if held_out is None or training is None else held_out - training

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, the gap included."""
        return {
            "training": [list(point) for point in self.training],
            "held_out": [list(point) for point in self.held_out],
            "best_step": self.best_step,
            "stopped_early": self.stopped_early,
            "gap": self.gap,
        }


@dataclass
class Watch:
    """Keeps the best weights and counts evaluations without improvement.

    Attributes:
        patience: Evaluations without improvement before training stops; 0 never stops.
        training: Points of the training curve.
        held_out: Points of the held-out curve.
        best_step: Steps done at the lowest held-out loss.
        best: The weights there, by name; empty before the first evaluation.
        pending: Training losses since the last point.

    Example:
        >>> watch = Watch(patience=2)
        >>> [watch.observe(step, loss, {}) for step, loss in enumerate([3.0, 2.0, 2.5, 2.1])]
        [True, True, False, False]
        >>> watch.best_step, watch.exhausted
        (1, True)
    """

    patience: int
    training: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    pending: list[float] = field(default_factory=list)

    def take(self, loss: float) -> None:
        """Take the training loss of one step; their mean becomes a point at the next evaluation."""
        self.pending.append(loss)

    def observe(self, step: int, held_out: float, weights: Mapping[str, torch.Tensor]) -> bool:
        """Take one evaluation and return whether it is the best so far; the best weights are copied.

        Args:
            step: Steps done.
            held_out: Loss on held-out rows; not a number counts as no improvement.
            weights: The trained weights by name.
        """
        lowest = min((loss for _, loss in self.held_out if math.isfinite(loss)), default=math.inf)
        self.held_out.append((step, held_out))
        self._close(step)
        better = held_out < lowest
        if better:
            self.best_step = step
            self.best = {name: weight.detach().clone() for name, weight in weights.items()}
        return better

    @property
    def exhausted(self) -> bool:
        """Whether the last ``patience`` evaluations brought nothing."""
        since = sum(step > self.best_step for step, _ in self.held_out)
        return 0 < self.patience <= since

    def _close(self, step: int) -> None:
        if self.pending:
            self.training.append((step, math.fsum(self.pending) / len(self.pending)))
            self.pending = []

    def curves(self, step: int) -> Curves:
        """Return what was recorded up to the last step; losses not yet in a point become one."""
        self._close(step)
        return Curves(tuple(self.training), tuple(self.held_out), self.best_step, self.exhausted)

    def to_dict(self) -> dict[str, Any]:
        """Return the record without the weights, as plain data for JSON."""
        return {
            "training": self.training,
            "held_out": self.held_out,
            "best_step": self.best_step,
            "pending": self.pending,
        }

    def restore(self, record: Mapping[str, Any], best: Mapping[str, torch.Tensor]) -> None:
        """Take over what `to_dict` recorded, and the best weights."""
        self.training = [(int(step), float(loss)) for step, loss in record["training"]]
        self.held_out = [(int(step), float(loss)) for step, loss in record["held_out"]]
        self.best_step = int(record["best_step"])
        self.pending = [float(loss) for loss in record["pending"]]
        self.best = dict(best)
