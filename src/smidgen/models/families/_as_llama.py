"""Writes a model whose blocks are Llama's but for fused matrices as a Llama or a Mistral, which compute the same."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smidgen.models.families._decoder import PROJECTIONS, head_size

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

SHARED = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps"),
    *("use_cache", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "attention_dropout"),
)
"""Entries of the configuration that mean the same in both."""


def as_llama(model: Model) -> Model:
    """Return a Llama that computes what a model computes; weights that are not divided are shared with it.

    Args:
        model: A model of pre-norm blocks without biases, all channels of its heads rotated, no sliding window.
    """
    return _written_as(model, "Llama")


def as_mistral(model: Model) -> Model:
    """Return a Mistral without a window, whose heads need not divide its width; see `as_llama`."""
    return _written_as(model, "Mistral", sliding_window=None)


def _written_as(model: Model, kind: str, **own: Any) -> Model:
    import torch
    import transformers

    from smidgen.models.families import for_architecture

    old = model.config
    rope = {name: value for name, value in old.rope_parameters.items() if name != "partial_rotary_factor"}
    values = {name: getattr(old, name) for name in SHARED}
    architecture = f"{kind}ForCausalLM"
    values |= {"head_dim": head_size(old), "rope_parameters": rope, "architectures": [architecture]} | own
    with torch.device("meta"):
        module: Any = getattr(transformers, architecture)(getattr(transformers, f"{kind}Config")(**values))
    state = _state(model)
    module.load_state_dict(state, assign=True)
    module.tie_weights()
    for name, buffer in list(module.named_buffers()):
        if buffer.is_meta:
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, model.module.get_buffer(name).clone())
    module.generation_config = copy.deepcopy(model.module.generation_config)
    whole = {id(value) for value in model.module.state_dict(keep_vars=True).values()}
    packed = {name: each for name, each in model.packed.items() if id(state.get(name)) in whole}
    family = for_architecture(architecture)
    return replace(model, module=module.train(model.module.training), family=family, packed=packed)


def _state(model: Model) -> dict[str, torch.Tensor]:
    """Return the weights under Llama's names, fused ones divided."""
    state: dict[str, torch.Tensor] = dict(model.module.state_dict(keep_vars=True))
    for block in model.anatomy.blocks:
        for role, part in block.projections.items():
            if part.rows is not None:
                name = f"{block.path}.{PROJECTIONS[role][0]}.weight"
                state[name] = model.weight(part.weight).detach()[slice(*part.rows)].clone()
        for part in block.projections.values():
            if part.rows is not None:
                state.pop(part.weight, None)
    return state
