"""Builds a module of a changed configuration around given weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smidgen.models import uneven
from smidgen.models.experts import take_apart
from smidgen.models.model import Model, PackedTensor

if TYPE_CHECKING:
    import torch


def rebuild(model: Model, config: Any, state: Mapping[str, torch.Tensor]) -> Any:
    """Build a module whose parameters are exactly the given tensors, without initialising anything.

    Args:
        model: Where class, buffers, generation settings and mode come from.
        config: The changed configuration.
        state: Every weight by its state-dictionary name; the tensors are taken over, not copied.

    Raises:
        Unsupported: The result could not be written and loaded again.
    """
    import torch

    model.family.require_loadable(config)
    source = model.module
    # An embedding that is scaled by its width's root keeps that factor in a buffer.
    factor = model.family.anatomy(config).embedding_scale / model.anatomy.embedding_scale
    with torch.device("meta"):
        anatomy = model.family.anatomy(config)
        module = take_apart(uneven.fit(type(source)(config), anatomy), anatomy)
    module.load_state_dict(state, assign=True)
    module.tie_weights()
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:
            owner, _, leaf = name.rpartition(".")
            kept = source.get_buffer(name).clone()
            setattr(module.get_submodule(owner), leaf, kept * factor if owner == model.anatomy.embedding else kept)
    module.generation_config = copy.deepcopy(source.generation_config)
    return module.train(source.training)


def copied_state(model: Model) -> dict[str, torch.Tensor]:
    """Copy every weight, a tied head once."""
    state = {name: value.detach() for name, value in model.module.state_dict().items()}
    anatomy = model.anatomy
    embedding, head = f"{anatomy.embedding}.weight", f"{anatomy.head}.weight"
    copies = {name: value.clone() for name, value in state.items() if not (anatomy.tied and name == head)}
    if anatomy.tied and head in state:
        copies[head] = copies[embedding]
    return copies


def packed_without(model: Model, names: Iterable[str]) -> dict[str, PackedTensor]:
    """Return the packed weights but for those that changed."""
    changed = set(names)
    return {name: tensor for name, tensor in model.packed.items() if name not in changed}
