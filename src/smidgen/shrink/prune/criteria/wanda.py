"""The size of a weight times the size of what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs, WeightEvidence
from smidgen.shrink.prune.criteria._parts import padded

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Wanda(Criterion):
    """|w_ij|·‖X_j‖₂, ‖X_j‖₂ being the root mean square of input j: large weights of loud inputs stay.

    Compared inside a row, so that every output keeps as many inputs as any other. Of a neuron or a head the sum
    over the columns of the layer that reads it (down, output). Needs one forward pass and no Hessian.
    Source: Sun 2023, arXiv 2306.11695; summed over columns: Wanda-sp, An 2023, arXiv 2312.11983.

    Example:
        >>> import torch
        >>> wanda(torch.tensor([[2.0, -1.0]]), torch.tensor([1.0, 9.0])).tolist()
        [[2.0, 3.0]]
    """

    structures: ClassVar[tuple[str, ...]] = ("weight", "synapse", "neuron", "head")

    def needs(self, structure: str) -> Needs:
        """Return the sites that the scored weights read."""
        readers = {"neuron": ("mlp_hidden",), "head": ("attention_output",)}
        every = ("attention_input", "attention_output", "mlp_input", "mlp_hidden")
        return Needs(readers.get(structure, every))

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the score of every neuron or head, ``[blocks, parts]``."""
        import torch

        found, rows = evidence.figures.second_moment, []
        for block in model.anatomy.blocks:
            if structure == "neuron":
                readers = [(mlp.projections.get("down"), mlp.site("mlp_hidden")) for mlp in block.mlps]
            else:
                readers = [(block.projections.get("output"), f"{block.path}.attention_output")]
            for reader, site in readers:
                if reader is None:
                    rows.append(torch.zeros(0))
                    continue
                columns = wanda(model.weight(reader.weight), found[site]).sum(0).cpu()
                rows.append(columns.reshape(block.query_heads, -1).sum(1) if structure == "head" else columns)
        return padded(rows)

    def score_weights(self, weight: torch.Tensor, evidence: WeightEvidence) -> torch.Tensor:
        """Return the score of every weight."""
        return wanda(weight, evidence.second_moment)


def wanda(weight: torch.Tensor, second_moment: torch.Tensor) -> torch.Tensor:
    """Return |w_ij|·√(mean x_j²) of a matrix ``[out, in]`` with inputs of this second moment ``[in]``."""
    return weight.detach().float().abs() * second_moment.to(weight.device).sqrt()
