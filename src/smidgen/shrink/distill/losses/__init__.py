"""What the student is asked to match: one file per loss.

An `OutputLoss` compares next-token distributions and sees one chunk of tokens at a time; a `StateLoss` compares
hidden states after matched blocks. Both give one value per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen import registry

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TopTokens:
    """What a cached teacher remembers of some tokens.

    Attributes:
        indices: The student's ids of the likeliest tokens, int64 ``[tokens, k]``.
        log_probabilities: Of them, float32 ``[tokens, k]``.
        tail: Probability of all other tokens together, float32 ``[tokens]``.
    """

    indices: torch.Tensor
    log_probabilities: torch.Tensor
    tail: torch.Tensor


@dataclass(frozen=True)
class Chunk:
    """What is known of some tokens besides the student's logits.

    Attributes:
        targets: The data's own next tokens in the student's ids, int64 ``[tokens]``.
        teacher: The teacher's logits ``[tokens, shared]`` or its top tokens; None where no loss asks it.
        columns: The student's ids that both vocabularies share, int64 ``[shared]``, in the order of the teacher's
            columns; None: all, in order.
        temperature: Softens both distributions.
    """

    targets: torch.Tensor
    teacher: torch.Tensor | TopTokens | None = None
    columns: torch.Tensor | None = None
    temperature: float = 1.0


class Loss:
    """Root of both kinds.

    Attributes:
        needs_teacher: Whether the teacher is asked at all.
    """

    needs_teacher: ClassVar[bool] = True


class OutputLoss(Loss):
    """A loss of next-token distributions."""

    def per_token(self, logits: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        """Return ``[tokens]``, differentiable.

        Args:
            logits: The student's, float32 ``[tokens, vocabulary]``.
            chunk: The same tokens' targets.
        """
        raise TypeError(f"{type(self).__name__} does not compare outputs")


class StateLoss(Loss):
    """A loss of hidden states."""

    def per_token(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return ``[tokens]``, differentiable; both are float32 ``[tokens, width]`` of the teacher's width."""
        raise TypeError(f"{type(self).__name__} does not compare hidden states")


def names() -> tuple[str, ...]:
    """List every loss.

    Example:
        >>> {"hard_output", "hidden", "soft_output"} <= set(names())
        True
    """
    return registry.names(__name__)


def build(name: str, options: dict[str, Any]) -> Loss:
    """Make a loss from its options.

    Raises:
        ReferenceNotFound: There is no such loss or option.
    """
    from smidgen.errors import ReferenceNotFound

    kind = registry.find(__name__, name)
    known = getattr(kind, "__dataclass_fields__", {})
    for option in options:
        if option not in known:
            raise ReferenceNotFound.among(f"option of the loss {name}", option, ["weight", *known])
    loss: Loss = kind(**options)
    return loss
