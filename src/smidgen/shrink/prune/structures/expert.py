"""Experts: MLPs of which a router chooses some for each token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.models.anatomy import MLP_ROLES
from smidgen.shrink.prune.structures import BlockStructure
from smidgen.shrink.prune.structures._cut import Cut
from smidgen.shrink.prune.structures._rebuild import packed_without, rebuild

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy, Block, Mlp
    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics


@dataclass(frozen=True)
class Expert(BlockStructure):
    """Experts of every block: ``keep`` says how many stay in each block.

    An expert is an MLP and its row of the router; tokens that would have gone to it go to the best of those that
    stay. Every block keeps the same count, at least as many as see a token. With ``merge`` each expert that goes is
    first averaged into the one that stays whose row of the router is likest to its own, both weighed by how many
    tokens they saw and the neurons put in the order that fits best (M-SMoE, arXiv 2310.01334); the router's rows
    stay as they are. Without training afterwards merging often does worse than leaving out (arXiv 2510.13999).

    Attributes:
        merge: Whether experts that go are averaged into those that stay.
    """

    merge: bool = False

    unit: ClassVar[str] = "experts per block"
    criterion: ClassVar[str] = "use"

    @property
    def watches(self) -> tuple[str, ...]:
        """Roles of the sites whose figures merging goes by."""
        return ("mlp_input",) if self.merge else ()

    def present(self, block: Block) -> int:
        """Count the experts of one block."""
        return block.experts

    def least(self, model: Model) -> int:
        """Return how many experts see a token.

        Raises:
            InvalidInput: The model has no experts.
        """
        if not model.anatomy.routers():
            raise InvalidInput("This model has no experts.", remedy="Cut neurons or layers instead.")
        return max(block.experts_used for block in model.anatomy.blocks)

    def require_uneven(self, anatomy: Anatomy) -> None:
        """Refuse: a configuration has one count of experts."""
        raise InvalidInput("Every block keeps the same count of experts.", remedy="Leave 'uneven' out.")

    def remove(self, model: Model, kept: Any) -> Model:
        """Build a model of these experts; int64 ``[keep]`` for each block, rising."""
        cut = Cut(model)
        packed = {name: tensor for name, tensor in model.packed.items() if ".experts." not in name}
        for block, stays in zip(model.anatomy.blocks, kept, strict=True):
            cut.take(f"{block.router}.weight", stays)
            before = {
                part.weight: cut.state.pop(part.weight) for mlp in block.mlps for part in mlp.projections.values()
            }
            for new, old in enumerate(stays.tolist()):
                for role in MLP_ROLES:
                    name, source = (block.mlps[number].projections[role].weight for number in (new, old))
                    cut.state[name] = before[source]
                    if source in model.packed:
                        packed[name] = model.packed[source]
        return replace(cut.build(model.family.with_experts(model.config, len(kept[0]))), packed=packed)

    def adjusted(self, model: Model, pruned: Model, kept: Any, statistics: Statistics) -> Model:
        """Average the experts that went into those that stayed, where that was asked for."""
        if not self.merge:
            return pruned
        changed: dict[str, torch.Tensor] = {}
        for before, after, stays in zip(model.anatomy.blocks, pruned.anatomy.blocks, kept, strict=True):
            changed |= _merged(model, before, after, stays.tolist(), statistics)
        module = rebuild(pruned, pruned.config, dict(pruned.module.state_dict()) | changed)
        return replace(pruned, module=module, packed=packed_without(pruned, changed))

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the weights of the experts that go and of their rows of the router."""
        saved, width = 0, model.anatomy.hidden_size
        for block in model.anatomy.blocks:
            saved += (block.experts - keep) * (len(MLP_ROLES) * block.neurons * width + width)
        return saved


def _merged(
    model: Model, before: Block, after: Block, stays: Sequence[int], statistics: Statistics
) -> dict[str, torch.Tensor]:
    """Return the weights of the experts of one block that take others in, by their new names."""
    import torch

    experts = [_weights(model, mlp) for mlp in before.mlps]
    reads = [float(statistics.reads[mlp.site("mlp_input")]) for mlp in before.mlps]
    joins: dict[int, list[int]] = {number: [number] for number in stays}
    rows = torch.nn.functional.normalize(model.weight(f"{before.router}.weight").detach().float().cpu(), dim=1)
    likeness = rows @ rows.T
    for number in range(before.experts):
        if number not in joins:
            joins[max(stays, key=lambda other: float(likeness[number, other]))].append(number)
    changed = {}
    for new, old in enumerate(stays):
        members, total = joins[old], sum(reads[number] for number in joins[old])
        if len(members) == 1 or total == 0:
            continue
        mean = torch.zeros_like(experts[old])
        for number in members:
            mean += experts[number][alignment(experts[old], experts[number])] * (reads[number] / total)
        parts = zip(MLP_ROLES, mean.chunk(3, dim=1), strict=True)
        for role, part in parts:
            name = after.mlps[new].projections[role].weight
            changed[name] = (part.T if role == "down" else part).to(model.weight(name)).contiguous()
    return changed


def _weights(model: Model, mlp: Mlp) -> torch.Tensor:
    """Return what belongs to each neuron, its rows of gate and up and its column of down, ``[neurons, 3·hidden]``."""
    import torch

    gate, up, down = (model.weight(mlp.projections[role].weight).detach().float().cpu() for role in MLP_ROLES)
    return torch.cat([gate, up, down.T], dim=1)


def alignment(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the order of the other's neurons in which they are likest to the first's, int64 ``[neurons]``.

    Pairs are taken in the order of their products, each neuron once: round by round all those that are each other's
    best among what is left.

    Args:
        one: What belongs to each neuron, ``[neurons, n]``.
        other: Same shape.

    Example:
        >>> import torch
        >>> alignment(torch.eye(3), torch.eye(3)[[2, 0, 1]]).tolist()
        [1, 2, 0]
    """
    import torch

    products, places = one @ other.T, torch.full((len(one),), -1)
    rows = torch.arange(len(one))
    while len(rows):
        best = products[rows].argmax(1)
        mutual = products[:, best].argmax(0) == rows
        places[rows[mutual]] = best[mutual]
        products[rows[mutual]] = -torch.inf
        products[:, best[mutual]] = -torch.inf
        rows = rows[~mutual]
    return places
