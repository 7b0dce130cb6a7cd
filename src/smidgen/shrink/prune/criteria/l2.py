"""The size of the weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class L2(Criterion):
    """Root of the sum of w² over the part's weights.

    For a layer all weights of the block, for a neuron its rows of gate and up and its column of down, for a
    token its rows of embedding and head. Needs no text, and knows nothing of it: a baseline.
    Source: Li 2017, arXiv 1608.08710.

    Example:
        >>> import torch
        >>> l2([torch.tensor([[3.0], [0.0]]), torch.tensor([[4.0], [1.0]])]).tolist()
        [5.0, 1.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("layer", "neuron", "vocabulary")

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the norm of every part."""
        return {"layer": _layers, "neuron": _neurons, "vocabulary": _tokens}[structure](model)


def l2(weights: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the norm of every part over weights whose rows ``[parts, …]`` belong to the parts."""
    import torch

    squares = [weight.detach().float().reshape(len(weight), -1).square().sum(1) for weight in weights]
    return torch.stack(squares).sum(0).sqrt().cpu()


def _layers(model: Model) -> torch.Tensor:
    import torch

    modules = [model.module.get_submodule(block.path) for block in model.anatomy.blocks]
    return torch.cat([l2(weight[None] for weight in module.parameters()) for module in modules])


def _neurons(model: Model) -> torch.Tensor:
    import torch

    scores = []
    for block in model.anatomy.blocks:
        weights = []
        for role in ("gate", "up"):
            projection = block.projections[role]
            weight = model.weight(projection.weight)
            weights.append(weight[slice(*projection.rows)] if projection.rows else weight)
        scores.append(l2([*weights, model.weight(block.projections["down"].weight).T]))
    return torch.stack(scores)


def _tokens(model: Model) -> torch.Tensor:
    anatomy = model.anatomy
    paths = [anatomy.embedding] if anatomy.tied else [anatomy.embedding, anatomy.head]
    return l2(model.weight(f"{path}.weight") for path in paths)
