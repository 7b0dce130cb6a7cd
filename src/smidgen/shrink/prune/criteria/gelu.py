"""How large a neuron's output is on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.criteria._parts import padded

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Gelu(Criterion):
    """Mean over tokens of |act(gate)·up|, with the activation function that the model has (SiLU, GELU).

    What the neuron hands to the down projection, sign left out; in an MLP without a gate |GELU(pre-activation)|.
    Differs from ``activation`` in that all tokens count alike, whatever window they stand in.

    Example:
        >>> import torch
        >>> gelu(torch.tensor([[1.0, -2.0], [3.0, -4.0]])).tolist()
        [2.0, 3.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("neuron",)

    def needs(self, structure: str) -> Needs:
        """Return what the down projection reads."""
        return Needs(("mlp_hidden",))

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the score of every neuron, ``[blocks, neurons]``."""
        import torch

        found = evidence.figures.magnitude
        return padded(
            found.get(mlp.site("mlp_hidden"), torch.zeros(0)) for block in model.anatomy.blocks for mlp in block.mlps
        )


def gelu(values: torch.Tensor) -> torch.Tensor:
    """Return the score of every neuron by its outputs ``[tokens, neurons]``."""
    return values.abs().mean(0)
