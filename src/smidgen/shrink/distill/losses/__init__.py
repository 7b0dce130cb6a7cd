"""What the student is asked to match: one file per loss.

An `OutputLoss` compares next-token distributions and sees one chunk of tokens at a time; a `PartLoss` compares what
matched parts of both models compute, as hidden states or attention; a `GradientLoss` compares slopes. The first two
give one value per token, the last one per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen import registry

if TYPE_CHECKING:
    import torch

    from smidgen.shrink.distill.matching import Matching


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


@dataclass(frozen=True)
class View:
    """Something that a part of a model computes.

    Attributes:
        path: Dotted path of the part; what it returns is watched.
        read: Makes ``[batch, length, …]`` of it; the values of a token stand at its place.
    """

    path: str
    read: Callable[[Any], torch.Tensor] = lambda output: output


Pair = tuple[View, View]
"""What of the student is compared with what of the teacher."""


class Loss:
    """Root of all kinds.

    Attributes:
        asks: What the teacher must give: ``nothing``, ``outputs``, ``parts`` or ``gradient``.
    """

    asks: ClassVar[str] = "outputs"

    @property
    def reads_maps(self) -> bool:
        """Whether attention maps must be seen, which the fast kernels never write down."""
        return False


class OutputLoss(Loss):
    """A loss of next-token distributions."""

    def per_token(self, logits: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        """Return ``[tokens]``, differentiable.

        Args:
            logits: The student's, float32 ``[tokens, vocabulary]``.
            chunk: The same tokens' targets.
        """
        raise TypeError(f"{type(self).__name__} does not compare outputs")


class PartLoss(Loss):
    """A loss of what parts of both models compute.

    Attributes:
        projected: Whether a projection of the student's values is learned where the models' widths differ.
    """

    asks: ClassVar[str] = "parts"
    projected: ClassVar[bool] = False

    def pairs(self, matching: Matching) -> list[Pair]:
        """Return what is compared with what; the loss is the mean over all pairs."""
        raise TypeError(f"{type(self).__name__} does not compare parts")

    def per_token(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return ``[tokens]``, differentiable; both are float32 ``[tokens, …]`` of one shape."""
        raise TypeError(f"{type(self).__name__} does not compare parts")


class GradientLoss(Loss):
    """A loss of slopes of the cross-entropy by the input embeddings."""

    asks: ClassVar[str] = "gradient"
    directions: int

    def per_row(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return ``[rows]``, differentiable; both are float32 ``[rows, …]`` of one shape."""
        raise TypeError(f"{type(self).__name__} does not compare slopes")


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
    loss: Loss = registry.build(__name__, name, options, also=("weight", "weight_end"))
    return loss
