"""The levels of a block format: rounding to the nearest one, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

REACH, PER_UNIT = 128, 2
"""Tables cover -128 to 128 in halves: levels are integers, so what lies between two of them is a half at least."""


@dataclass(frozen=True)
class Grid:
    """Levels; the code of a level is its place among them, the first one where it stands twice.

    Attributes:
        levels: From -128 to 128. Consecutive integers are rounded to directly, other multiples of a half, in any
            order, through a table. The levels between them must ascend; the table is then off by a quarter at most
            where two of them meet.

    Example:
        >>> import torch
        >>> grid = Grid((-10, 1, 13))
        >>> grid.encode(torch.tensor([-20.0, 0.0, 6.9, 7.1])).tolist(), grid.decode(torch.tensor([2])).tolist()
        ([0, 1, 1, 2], [13.0])
    """

    levels: tuple[float, ...]

    @cached_property
    def uniform(self) -> bool:
        """Whether the levels are consecutive."""
        return self.levels == tuple(range(int(self.levels[0]), int(self.levels[-1]) + 1))

    @cached_property
    def halves(self) -> bool:
        """Whether the levels are multiples of a half."""
        return all(level * PER_UNIT == int(level * PER_UNIT) for level in self.levels)

    @cached_property
    def lookup(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """Nearest code of every half from -128 to 127.5, ``[512]``; empty where the levels are consecutive.

        The nearest to the middle of what is rounded down to a half, since no two levels meet inside.
        """
        import numpy as np

        if self.uniform:
            return np.empty(0, np.uint8)
        middles = np.arange(-REACH, REACH, 1 / PER_UNIT) + 0.5 / PER_UNIT
        return np.array(np.abs(middles[:, None] - self.values).argmin(1), np.uint8)

    @cached_property
    def snapped(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The levels that the table's codes stand for, for compiled code; empty where the levels are consecutive."""
        return self.values[self.lookup]

    @cached_property
    def values(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The levels, float32 ``[codes]``."""
        import numpy as np

        return np.array(self.levels, np.float32)

    def encode(self, scaled: Tensor) -> Tensor:
        """Return the codes of the nearest levels, uint8; the argument may be overwritten."""
        import torch

        lowest, highest = self.levels[0], self.levels[-1]
        if self.uniform:
            return scaled.round_().clamp_(lowest, highest).sub_(lowest).to(torch.uint8)
        if not self.halves:
            return torch.bucketize(scaled, self._on(scaled.device, self.values).unfold(0, 2, 1).mean(1)).to(torch.uint8)
        place = scaled.mul_(PER_UNIT).add_(REACH * PER_UNIT).clamp_(0, len(self.lookup) - 1).to(torch.int32)
        return self._on(scaled.device, self.lookup)[place]

    def decode(self, codes: Tensor) -> Tensor:
        """Return the levels of codes, float32."""
        if self.uniform:
            return codes.float().add_(self.levels[0])
        return self._on(codes.device, self.values)[codes.int()]

    @staticmethod
    def _on(device: torch.device, table: np.ndarray[tuple[int], np.dtype[np.generic]]) -> Tensor:
        import torch

        return torch.from_numpy(table).to(device)


@cache
def grid_of(levels: tuple[float, ...]) -> Grid:
    """Return the grid of some levels, made once."""
    return Grid(levels)
