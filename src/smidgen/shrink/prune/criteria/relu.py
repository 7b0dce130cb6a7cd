"""How strongly a neuron's gate is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.criteria._parts import padded

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Relu(Criterion):
    """Mean over tokens of ReLU(pre-activation): a neuron whose gate is seldom above zero goes first.

    The pre-activation is what goes into the activation function: the gate projection's output. Made for networks
    with ReLU, where the gate is the neuron's output; blind to what the up projection brings.
    Source: Hu 2016, arXiv 1607.03250 (there the share of zeros, APoZ).

    Example:
        >>> import torch
        >>> relu(torch.tensor([[1.0, -2.0], [3.0, -4.0]])).tolist()
        [2.0, 0.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("neuron",)

    def needs(self, structure: str) -> Needs:
        """Return the pre-activations."""
        return Needs(("mlp_hidden",), preactivations=True)

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the score of every neuron, ``[blocks, neurons]``."""
        import torch

        found = evidence.figures.relu
        return padded(
            found.get(mlp.site("mlp_hidden"), torch.zeros(0)) for block in model.anatomy.blocks for mlp in block.mlps
        )


def relu(values: torch.Tensor) -> torch.Tensor:
    """Return the score of every neuron by its pre-activations ``[tokens, neurons]``."""
    return values.clamp_min(0).mean(0)
