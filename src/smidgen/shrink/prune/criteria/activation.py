"""How strongly a part fires on the calibration text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.criteria._parts import padded

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

STREAM_READERS = ("attention_input", "mlp_input")


@dataclass(frozen=True)
class Activation(Criterion):
    """Root of the sum over windows of (mean over the window's tokens of |activation|)².

    The activation of a neuron is act(gate)·up, of a head the norm of its output, of a hidden channel what the norms
    before attention and MLP give, summed over all of them. Looks at what the part gives on real text, not at its
    weights. Needs one forward pass. Source: Minitron, arXiv 2407.14679.

    Example:
        >>> import torch
        >>> activation(torch.tensor([[[3.0], [-3.0]], [[4.0], [4.0]]])).tolist()
        [5.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("neuron", "head", "width")

    def needs(self, structure: str) -> Needs:
        """Return the sites where the parts' outputs are read."""
        roles = {"neuron": ("mlp_hidden",), "head": ("attention_output",), "width": STREAM_READERS}
        return Needs(roles[structure])

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the score of every part."""
        import torch

        figures, blocks = evidence.figures, model.anatomy.blocks
        if structure == "neuron":
            return padded(figures.mean_absolute.get(f"{block.path}.mlp_hidden", torch.zeros(0)) for block in blocks)
        if structure == "head":
            return padded(figures.head_norm.get(f"{block.path}.attention_output", torch.zeros(0)) for block in blocks)
        sites = [f"{block.path}.{role}" for block in blocks for role in STREAM_READERS]
        return torch.stack([figures.mean_absolute[site] for site in sites if site in figures.mean_absolute]).sum(0)


def activation(values: torch.Tensor) -> torch.Tensor:
    """Return the score of every channel of activations ``[windows, length, width]``."""
    import torch

    scores: torch.Tensor = torch.linalg.vector_norm(values.abs().mean(1), dim=0)
    return scores
