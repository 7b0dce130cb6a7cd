"""How blocks that differ are written for llama.cpp: its architecture ``deci`` takes counts layer by layer.

What it asks for, beside the tensors of ``llama`` as they are: an attention that is not there has 0 heads and no
tensors, its norm included, but for the first layer's, where the size of a head is read. A layer whose MLP has no
width would lose its attention as well, so an absent MLP is written as one of 32 neurons that are all zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smidgen.models import uneven

if TYPE_CHECKING:
    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model

IDLE_NEURONS = 32


def differs(model: Model) -> bool:
    """Whether the model's blocks differ in heads or neurons."""
    return uneven.counts(model.config) is not None


def metadata(model: Model, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a family's key-value pairs for the other architecture, with counts for each layer.

    Args:
        model: A model whose blocks differ.
        values: The pairs for blocks that are alike.
    """
    family, blocks = model.family, model.anatomy.blocks
    before, after = f"{family.gguf_architecture}.", f"{family.uneven_gguf_architecture}."
    renamed = {
        after + name.removeprefix(before) if name.startswith(before) else name: value for name, value in values.items()
    }
    return renamed | {
        f"{after}attention.head_count": [block.query_heads for block in blocks],
        f"{after}attention.head_count_kv": [block.key_value_heads for block in blocks],
        f"{after}feed_forward_length": [block.neurons or IDLE_NEURONS for block in blocks],
    }


def names(model: Model, every: Mapping[str, str]) -> dict[str, str]:
    """Return the names of the parameters that the model has and that the file shall hold."""
    present, without = dict(model.module.named_parameters()), idle(model)
    return {name: stored for name, stored in every.items() if name in present and name not in without}


def idle(model: Model) -> dict[str, None]:
    """Return the names of norms before an attention that is not there, which the file leaves out."""
    if not differs(model):
        return {}
    paths = [
        block.norm_before["attention_input"]
        for block in model.anatomy.blocks
        if not block.query_heads and "attention_input" in block.norm_before
    ]
    return {f"{path}.weight": None for path in paths}


def config_of(model: Model, name: str) -> Any:
    """Return the configuration by whose counts the rows of a parameter are ordered."""
    if not differs(model):
        return model.config
    for block in model.anatomy.blocks:
        if name.startswith(f"{block.path}."):
            return uneven.block_config(model.config, block.index)
    return model.config


def zeros(model: Model) -> dict[str, tuple[int, int]]:
    """Return the matrices, by their name in the file, that stand for an MLP that is not there, and their shapes."""
    if not differs(model):
        return {}
    whole: Anatomy = model.family.anatomy(model.config)
    stored, found = model.family.gguf_names(model.config), {}
    for block, full in zip(model.anatomy.blocks, whole.blocks, strict=True):
        if not block.neurons:
            for role in uneven.MLP:
                shape = (IDLE_NEURONS, whole.hidden_size)
                found[stored[full.projections[role].weight]] = shape[::-1] if role == "down" else shape
    return found
