"""Experts as modules of their own, one for each, as they are published.

Transformers keeps the experts of a block in two tensors of three dimensions, ``gate_up_proj`` ``[experts, 2·neurons,
hidden]`` and ``down_proj`` ``[experts, hidden, neurons]``. Here each expert has linear layers ``gate_proj``,
``up_proj`` and ``down_proj``, which read the tokens routed to it and no others: what looks at the inputs of linear
layers, or changes their weights, does so expert by expert without knowing of experts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy, Block

FUSED_IN, FUSED_OUT = "gate_up_proj", "down_proj"


def container(block: Block) -> str:
    """Return the dotted path of the module that holds a block's experts."""
    return block.projections["down.0"].path.rsplit(".", 2)[0]


def take_apart(module: Any, anatomy: Anatomy) -> Any:
    """Give every block's experts modules of their own, in place; what is apart already stays.

    Args:
        module: A transformers model.
        anatomy: Where its experts lie.

    Returns:
        The module.
    """
    if not any(block.experts for block in anatomy.blocks):
        return module
    from smidgen.models._experts import Experts

    for block in anatomy.blocks:
        if block.experts:
            owner, _, name = container(block).rpartition(".")
            fused = module.get_submodule(container(block))
            if not isinstance(fused, Experts):
                apart = Experts(fused.gate_up_proj.data, fused.down_proj.data, fused.act_fn)
                setattr(module.get_submodule(owner), name, apart.train(fused.training))
    return module


def joined(state: dict[str, torch.Tensor], anatomy: Anatomy) -> dict[str, torch.Tensor]:
    """Return a state dictionary in which experts lie as transformers keeps them.

    Args:
        state: Every weight by name, experts apart; emptied of them on the way.
        anatomy: Where the experts lie.
    """
    import torch

    for block in anatomy.blocks:
        if block.experts:
            parts = [{role: state.pop(part.weight) for role, part in mlp.projections.items()} for mlp in block.mlps]
            state[f"{container(block)}.{FUSED_IN}"] = torch.stack(
                [torch.cat([part["gate"], part["up"]]) for part in parts]
            )
            state[f"{container(block)}.{FUSED_OUT}"] = torch.stack([part["down"] for part in parts])
    return state
