"""Match the last hidden state, the embedding that a model makes of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.distill.losses import Pair, PartLoss, View, _measure

if TYPE_CHECKING:
    import torch

    from smidgen.shrink.distill.matching import Matching


@dataclass(frozen=True)
class Embedding(PartLoss):
    """1 − cos(e_s, e_t), or the mean over channels of (e_s − e_t)², per token; states ``[tokens, width]``.

    e is the hidden state that the head reads, after the last norm. For teachers whose next-token distributions are
    of no use, as models that were trained to embed text. Where widths differ, a projection is learned and thrown
    away. Source: Reimers 2020, arXiv 2004.09813, there with one vector per sentence.

    Attributes:
        measure: ``cosine`` or ``mse``.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 0.0]])
        >>> float(Embedding(measure="mse").per_token(student, teacher)[0])
        2.5
    """

    projected: ClassVar[bool] = True
    measure: str = "cosine"

    def __post_init__(self) -> None:
        _measure.require(self.measure)

    def pairs(self, matching: Matching) -> list[Pair]:
        """Return the last norm of both."""
        return [(View(matching.student.anatomy.final_norm), View(matching.teacher.anatomy.final_norm))]

    def per_token(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return the distance of every token."""
        return _measure.apart(student, teacher, self.measure)
