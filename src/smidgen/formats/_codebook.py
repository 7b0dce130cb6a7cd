"""What formats are asked for whose codes cannot be chosen weight by weight under a scale."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from smidgen.formats._format import NumberFormat

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.formats._block import BlockFormat


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


class VectorFormat(NumberFormat):
    """Groups of weights under one scale, in which every few neighbouring weights are one code."""

    group: int

    @property
    @abstractmethod
    def lanes(self) -> int:
        """Weights that one code stands for; a group is a multiple of them."""

    @abstractmethod
    def learn(self, weights: Tensor, importance: Tensor) -> Tensor:
        """Return the codebook that serves a matrix best, as it will be stored; empty where all have the same.

        Args:
            weights: float32 [rows, columns].
            importance: How much the squared error of a weight counts, positive, [rows or 1, columns].
        """

    @abstractmethod
    def fit(self, weights: Tensor, importance: Tensor) -> Tensor:
        """Return the scales of groups as they will be stored, float32 [groups].

        Args:
            weights: float32 [groups, group].
            importance: As for `learn`, [groups or 1, group].
        """

    @abstractmethod
    def encode(self, weights: Tensor, scale: Tensor, turn: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
        """Choose codes, so that ‖(w - ŵ)·turn‖² is least or near it.

        Args:
            weights: float32 [rows, lanes].
            scale: What `fit` returned, [rows].
            turn: float32 [lanes, lanes], upper triangular.
            codebook: What `learn` returned.

        Returns:
            The codes [rows] and what they stand for, float32 [rows, lanes].
        """

    @abstractmethod
    def join(self, codes: Tensor, scale: Tensor, codebook: Tensor) -> Tensor:
        """Pack codes [rows, columns / lanes], scales [rows, groups] and a codebook to bytes [rows, bytes per row]."""


class TieredFormat(NumberFormat):
    """Rows of which some columns are stored in one block format and some in others."""

    @abstractmethod
    def divide(self, score: Tensor) -> list[tuple[BlockFormat, Tensor]]:
        """Return the formats, the finest first, and the columns [rows, n] of each in ascending order.

        Args:
            score: What storing a column badly costs, [rows, columns].
        """

    @abstractmethod
    def gather(self, parts: list[tuple[Tensor, Tensor]], columns: int) -> Tensor:
        """Join packed parts to bytes [rows, bytes per row].

        Args:
            parts: For every format that `divide` returned its columns [rows, n] and its bytes [rows, bytes].
            columns: Of the whole matrix.
        """


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
