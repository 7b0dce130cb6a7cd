"""Synapses: some of every few consecutive inputs of a neuron."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.shrink.prune.structures import WeightStructure

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Synapse(WeightStructure):
    """N of every M consecutive inputs of each neuron stay, as ``pattern`` says, in place of ``keep``.

    For the pattern 2:4 some GPUs have fast arithmetic. Every matrix keeps its shape, so size and speed stay as they
    are unless it is stored and run as such a pattern; healing keeps the zeros. Repair changes the weights that stay
    so that every output changes least. Source: Mishra 2021, arXiv 2104.08378.

    Attributes:
        pattern: N:M, as ``2:4`` or ``4:8``.

    Example:
        >>> import torch
        >>> Synapse().stays(torch.tensor([[4.0, 1.0, 2.0, 3.0]]), 0.5).tolist()
        [[True, False, False, True]]
    """

    pattern: str = "2:4"

    criterion: ClassVar[str] = "sparsegpt"
    iterative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        stay, of = self.numbers
        if not 0 < stay < of:
            raise InvalidInput(
                f"The pattern {self.pattern!r} removes nothing, or all.", remedy="As in 2:4, two of every four stay."
            )

    @cached_property
    def numbers(self) -> tuple[int, int]:
        """The pattern's N and M."""
        found = re.fullmatch(r"(\d{1,3}):(\d{1,3})", self.pattern)
        if found is None:
            raise InvalidInput(f"{self.pattern!r} is no pattern.", remedy="Give N:M, as 2:4 or 4:8.")
        return int(found[1]), int(found[2])

    def sparsity(self, asked: float) -> float:
        """Return the share that the pattern removes."""
        stay, of = self.numbers
        return 1 - stay / of

    def group(self) -> int:
        """Return M."""
        return self.numbers[1]

    def check_columns(self, columns: int) -> None:
        """Refuse rows that M does not divide."""
        if columns % self.group():
            raise InvalidInput(
                f"The pattern {self.pattern} does not divide rows of {columns:,}.", remedy="Choose another pattern."
            )

    def stays(self, scores: torch.Tensor, sparsity: float, first: int = 0) -> torch.Tensor:
        """Say which weights stay: the N highest scores of every M."""
        import torch

        stay, of = self.numbers
        grouped = scores.reshape(-1, of)
        best = grouped.argsort(dim=1, descending=True, stable=True)[:, :stay]
        return torch.zeros_like(grouped, dtype=torch.bool).scatter_(1, best, True).reshape(scores.shape)
