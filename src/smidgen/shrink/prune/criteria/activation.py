"""How strongly a neuron fires on the calibration text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Activation(Criterion):
    """Root of the sum over windows of (mean over the window's tokens of |act(gate)·up|)².

    Looks at what the neuron gives on real text, not at its weights: the default for neurons. Needs one forward
    pass. Source: Minitron, arXiv 2407.14679.

    Example:
        >>> import torch
        >>> activation(torch.tensor([[[3.0], [-3.0]], [[4.0], [4.0]]])).tolist()
        [5.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("neuron",)
    needs: ClassVar[tuple[str, ...] | None] = ("mlp_hidden",)

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the score of every neuron, ``[blocks, neurons]``."""
        import torch

        assert evidence.statistics is not None
        found = evidence.statistics.mean_absolute
        return torch.stack([found[f"{block.path}.mlp_hidden"] for block in model.anatomy.blocks])


def activation(values: torch.Tensor) -> torch.Tensor:
    """Return the score of every channel of activations ``[windows, length, width]``."""
    import torch

    scores: torch.Tensor = torch.linalg.vector_norm(values.abs().mean(1), dim=0)
    return scores
