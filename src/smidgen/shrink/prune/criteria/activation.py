"""How strongly a part fires on the calibration text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.criteria._parts import padded

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Mlp
    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics

STREAM_READERS = ("attention_input", "mlp_input")


@dataclass(frozen=True)
class Activation(Criterion):
    """Root of the sum over windows of (mean over the window's tokens of |activation|)².

    The activation of a neuron is act(gate)·up, of a head the norm of its output, of a hidden channel what the norms
    before attention and MLP give, summed over all of them; of an expert the sum over all tokens and its neurons of
    |act(gate)·up| times the norm of the column of down that reads it. Looks at what the part gives on real text, not
    at its weights. Needs one forward pass. Source: Minitron, arXiv 2407.14679.

    Example:
        >>> import torch
        >>> activation(torch.tensor([[[3.0], [-3.0]], [[4.0], [4.0]]])).tolist()
        [5.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("neuron", "head", "expert", "width")

    def needs(self, structure: str) -> Needs:
        """Return the sites where the parts' outputs are read."""
        roles = {"head": ("attention_output",), "width": STREAM_READERS}
        return Needs(roles.get(structure, ("mlp_hidden",)))

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the score of every part."""
        import torch

        figures, blocks = evidence.figures, model.anatomy.blocks
        if structure == "neuron":
            mlps = [mlp for block in blocks for mlp in block.mlps]
            return padded(figures.mean_absolute.get(mlp.site("mlp_hidden"), torch.zeros(0)) for mlp in mlps)
        if structure == "expert":
            return padded(torch.stack([_given(model, mlp, figures) for mlp in block.mlps]) for block in blocks)
        if structure == "head":
            return padded(figures.head_norm.get(f"{block.path}.attention_output", torch.zeros(0)) for block in blocks)
        sites = [f"{block.path}.{role}" for block in blocks for role in STREAM_READERS]
        return torch.stack([figures.mean_absolute[site] for site in sites if site in figures.mean_absolute]).sum(0)


def _given(model: Model, mlp: Mlp, figures: Statistics) -> torch.Tensor:
    """Return how much one expert may add to the residual stream on the whole text."""
    site = mlp.site("mlp_hidden")
    columns = model.weight(mlp.projections["down"].weight).detach().float().cpu().norm(dim=0)
    given: torch.Tensor = figures.reads[site] * (figures.magnitude[site] @ columns)
    return given


def activation(values: torch.Tensor) -> torch.Tensor:
    """Return the score of every channel of activations ``[windows, length, width]``."""
    import torch

    scores: torch.Tensor = torch.linalg.vector_norm(values.abs().mean(1), dim=0)
    return scores
