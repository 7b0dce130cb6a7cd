"""Single weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.shrink.prune.structures import WeightStructure

if TYPE_CHECKING:
    import torch

GROUP = 128


@dataclass(frozen=True)
class Weight(WeightStructure):
    """Single weights of the blocks' matrices, set to zero: ``sparsity`` says what share, in place of ``keep``.

    Every matrix keeps its shape, so size and speed stay as they are unless the zeros are stored sparse; healing
    keeps them zero. Repair changes the weights that stay so that every output changes least.

    Attributes:
        per: Whether every ``row`` loses the same share, or only the matrix as a whole (``layer``).

    Example:
        >>> import torch
        >>> Weight().stays(torch.tensor([[4.0, 1.0], [2.0, 3.0]]), 0.5).tolist()
        [[True, False], [False, True]]
        >>> Weight("layer").stays(torch.tensor([[4.0, 3.0], [2.0, 1.0]]), 0.5).tolist()
        [[True, True], [False, False]]
    """

    per: str = "row"

    criterion: ClassVar[str] = "sparsegpt"

    def __post_init__(self) -> None:
        if self.per not in ("row", "layer"):
            raise InvalidInput(f"Weights cannot be compared per {self.per!r}.", remedy="Say 'row' or 'layer'.")

    def group(self) -> int:
        """Return 128, the columns that are decided together."""
        return GROUP

    def stays(self, scores: torch.Tensor, sparsity: float, first: int = 0) -> torch.Tensor:
        """Say which weights stay: the highest scores of each row, or of all."""
        import torch

        rows, width = scores.shape
        flat = scores if self.per == "row" else scores.reshape(1, -1)
        # Rounded so that the groups of one row together lose what the whole row would.
        going = round(sparsity * (first + width)) - round(sparsity * first)
        if self.per == "layer":
            going = round(sparsity * rows * (first + width)) - round(sparsity * rows * first)
        gone = flat.argsort(dim=1, stable=True)[:, :going]
        return torch.ones_like(flat, dtype=torch.bool).scatter_(1, gone, False).reshape(rows, width)
