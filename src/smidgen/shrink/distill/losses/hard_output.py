"""Match the data's own next tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.distill.losses import Chunk, OutputLoss

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HardOutput(OutputLoss):
    """−log softmax(z_s)[next token] per token, in nats; logits ``[tokens, vocabulary]``.

    The ordinary cross-entropy, at temperature 1 whatever the others use. Add a little of it where the text is
    of the very kind that the model is for. Source: Hinton 2015, arXiv 1503.02531, section 2.

    Example:
        >>> import torch
        >>> student = torch.log(torch.tensor([[0.25, 0.75]]))
        >>> round(float(HardOutput().per_token(student, Chunk(torch.tensor([0])))[0]), 4)
        1.3863
    """

    asks: ClassVar[str] = "nothing"

    def per_token(self, logits: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        """Return the cross-entropy of every token."""
        import torch.nn.functional as functional

        return functional.cross_entropy(logits, chunk.targets, reduction="none")
