"""How much the loss would change without the weights, by its slope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Evidence, Needs, WeightEvidence
from smidgen.shrink.prune.criteria._parts import Summed, sum_over_parts

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Taylor(Summed):
    """Sum of |w · ∂loss/∂w| over the part's weights, the loss being that of the next token on the text.

    The first term of the loss's expansion around the model as it is. All parts are on one scale, so it suits uneven
    cuts. Needs one pass forward and backward, and memory for a gradient of every weight concerned.
    Source: Molchanov 2019, arXiv 1906.10771; LLM-Pruner, arXiv 2305.11627.

    Example:
        >>> import torch
        >>> taylor(torch.tensor([[2.0, -3.0]]), torch.tensor([[0.5, 0.25]])).tolist()
        [[1.0, 0.75]]
    """

    comparable: ClassVar[bool] = True

    def needs(self, structure: str) -> Needs:
        """Return the gradients of the parts' weights."""
        return Needs(gradients=True)

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the sum of every part."""
        gradients = evidence.figures.gradient
        return sum_over_parts(model, structure, lambda name: taylor(model.weight(name), gradients[name]))

    def score_weights(self, weight: torch.Tensor, evidence: WeightEvidence) -> torch.Tensor:
        """Return |w · ∂loss/∂w|."""
        assert evidence.gradient is not None
        return taylor(weight, evidence.gradient)


def taylor(weight: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return |w·g| of every weight, in its shape."""
    return (weight.detach().float() * gradient.to(weight.device)).abs()
