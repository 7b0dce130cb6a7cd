"""What formats share whose codes stand for values of a codebook that every row has for itself."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from smidgen.formats._format import NumberFormat

if TYPE_CHECKING:
    from torch import Tensor


class CodebookFormat(NumberFormat):
    """Rows of codes, each with its own values in ascending order."""

    @abstractmethod
    def learn(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Return the values that serve each row best, as they will be stored, float32 [rows, values], ascending.

        Args:
            weights: [rows, columns].
            importance: How much the squared error of a weight counts, [columns] or [rows, columns].
        """

    @abstractmethod
    def join(self, codes: Tensor, codebook: Tensor) -> Tensor:
        """Pack codes, uint8 [rows, columns], and what `learn` returned to bytes [rows, bytes per row]."""


def nearest(weights: Tensor, codebook: Tensor) -> Tensor:
    """Return the places [rows, columns] of the nearest values in ascending codebooks [rows, values].

    Example:
        >>> import torch
        >>> nearest(torch.tensor([[0.2, 0.9]]), torch.tensor([[0.0, 1.0]])).tolist()
        [[0, 1]]
    """
    import torch

    boundaries = (codebook[:, 1:] + codebook[:, :-1]) / 2
    return torch.searchsorted(boundaries.contiguous(), weights.contiguous())
