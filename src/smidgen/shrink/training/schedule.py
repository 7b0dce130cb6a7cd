"""What happens at a step: its learning rate and its rows. Both are pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput, ReferenceNotFound

if TYPE_CHECKING:
    import torch

SHAPES = ("constant", "cosine", "linear")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the peak, then a fall to a floor.

    Attributes:
        steps: Steps in all.
        peak: Highest learning rate.
        warmup: Share of the steps that the rate takes to reach the peak, 0 to 1.
        shape: ``cosine``, ``linear`` or ``constant`` after the warm-up.
        floor: Lowest rate after the warm-up, as a share of the peak.

    Example:
        >>> schedule = Schedule(steps=10, peak=1.0, warmup=0.2, shape="linear", floor=0.0)
        >>> [round(schedule.rate(step), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.125]
    """

    steps: int
    peak: float
    warmup: float = 0.05
    shape: str = "cosine"
    floor: float = 0.1

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ReferenceNotFound.among("schedule", self.shape, SHAPES)
        if not (0 <= self.warmup <= 1 and 0 <= self.floor <= 1):
            raise InvalidInput(
                f"A schedule's warm-up and floor are shares from 0 to 1, not {self.warmup} and {self.floor}."
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of one step, counted from 0."""
        rising = math.ceil(self.warmup * self.steps)
        if step < rising:
            return self.peak * (step + 1) / rising
        if self.shape == "constant":
            return self.peak
        share = (step - rising) / max(1, self.steps - rising)
        left = 1 - share if self.shape == "linear" else (1 + math.cos(math.pi * share)) / 2
        return self.peak * (self.floor + (1 - self.floor) * left)


def seed_of(seed: int, number: int) -> int:
    """Mix a seed and a count into a seed for a generator, below 2⁶³."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 31)) * 0xD6E8FEB86659FD93) & (2**64 - 1)
    return (mixed ^ (mixed >> 32)) >> 1


@lru_cache(maxsize=2)
def _order(rows: int, seed: int, epoch: int) -> torch.Tensor:
    import torch

    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed_of(seed, epoch)))


def rows_of_step(rows: int, batch_size: int, seed: int, step: int) -> torch.Tensor:
    """Return the rows of one step, int64 ``[batch_size]``: every row once before any comes again.

    Args:
        rows: Rows there are.
        batch_size: Rows per step.
        seed: Chooses the order.
        step: Counted from 0.

    Example:
        >>> sorted(int(row) for step in range(3) for row in rows_of_step(6, 2, 0, step))
        [0, 1, 2, 3, 4, 5]
    """
    import torch

    first = step * batch_size
    places = range(first, first + batch_size)
    return torch.stack([_order(rows, seed, place // rows)[place % rows] for place in places])
