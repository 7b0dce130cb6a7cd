"""Match the hidden states after the blocks that both models have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.distill.losses import Pair, PartLoss, View, _measure

if TYPE_CHECKING:
    import torch

    from smidgen.shrink.distill.matching import Matching


@dataclass(frozen=True)
class Hidden(PartLoss):
    """1 − cos(h_s, h_t), or the mean over channels of (h_s − h_t)², per token; states ``[tokens, width]``.

    Blocks are matched through the lineage; where widths differ, a projection is learned and thrown away. Helps
    after deep cuts, beside ``soft_output``. Source: TinyBERT, arXiv 1909.10351, section 3.

    Attributes:
        measure: ``cosine`` or ``mse``.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
        >>> round(float(Hidden().per_token(student, teacher)[0]), 4)
        0.4
    """

    projected: ClassVar[bool] = True
    measure: str = "cosine"

    def __post_init__(self) -> None:
        _measure.require(self.measure)

    def pairs(self, matching: Matching) -> list[Pair]:
        """Return the matched blocks."""
        return [(View(mine.path), View(theirs.path)) for mine, theirs in matching.blocks]

    def per_token(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return the distance of every token."""
        return _measure.apart(student, teacher, self.measure)
