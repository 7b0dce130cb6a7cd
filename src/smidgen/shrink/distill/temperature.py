"""The temperature both distributions are softened by: constant, annealed, or set by the teacher's entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    import torch

LOWEST, HIGHEST = 0.05, 100.0


@dataclass(frozen=True)
class Temperature:
    """A temperature per step.

    Attributes:
        start: Temperature of the first step.
        end: Temperature of the last step, reached in a straight line; None stays at the start.

    Example:
        >>> [Temperature(4.0, 1.0).at(step, 4) for step in range(4)]
        [4.0, 3.0, 2.0, 1.0]
    """

    start: float = 1.0
    end: float | None = None

    def __post_init__(self) -> None:
        for value in (self.start, self.end):
            if value is not None and not LOWEST <= value <= HIGHEST:
                raise InvalidInput(f"A temperature must lie between {LOWEST} and {HIGHEST:g}, not {value}.")

    def at(self, step: int, steps: int) -> float:
        """Return the temperature of a step counted from 0."""
        if self.end is None:
            return self.start
        return self.start + (self.end - self.start) * min(1.0, step / max(1, steps - 1))


def mean_entropy(logits: torch.Tensor, temperature: float) -> float:
    """Mean entropy of softmax(logits/T) in nats; logits ``[tokens, vocabulary]``."""
    scores = (logits.float() / temperature).log_softmax(-1)
    return float(-(scores.exp() * scores).sum(-1).mean())


def for_entropy(logits: torch.Tensor, target: float, *, tolerance: float = 1e-3) -> float:
    """Find the temperature at which the mean entropy of these logits reaches a target, by bisection.

    Args:
        logits: The teacher's, ``[tokens, vocabulary]``.
        target: In nats, above 0 and below log(vocabulary).
        tolerance: Of the entropy.

    Raises:
        InvalidInput: No temperature from 0.05 to 100 reaches it.

    Example:
        >>> import torch
        >>> logits = torch.log(torch.tensor([[0.9, 0.1]])) * 2
        >>> expected = mean_entropy(logits, 2.0)
        >>> round(for_entropy(logits, expected), 1)
        2.0
    """
    low, high = LOWEST, HIGHEST
    if not mean_entropy(logits, low) <= target <= mean_entropy(logits, high):
        raise InvalidInput(
            f"The teacher's entropy cannot reach {target} nats.",
            remedy=f"At temperature 1 it is {mean_entropy(logits, 1.0):.3f}.",
        )
    for _ in range(60):
        middle = (low * high) ** 0.5
        entropy = mean_entropy(logits, middle)
        if abs(entropy - target) <= tolerance:
            break
        low, high = (middle, high) if entropy < target else (low, middle)
    return float(middle)
