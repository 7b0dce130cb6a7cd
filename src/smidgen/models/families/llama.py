"""Llama: SmolLM2, Llama 3.x, and everything that publishes itself as ``LlamaForCausalLM``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models import uneven
from smidgen.models.families import _long_rope
from smidgen.models.families._decoder import Decoder, head_size, indivisible

if TYPE_CHECKING:
    import numpy as np
    import torch

    from smidgen.models.model import Model

ROPE_FACTORS = "rope_freqs.weight"
SCALING, LONG = "rope.scaling.type", "longrope"
SLIDING_WINDOW = "llama.attention.sliding_window"
"""What a file of the architecture ``llama`` says when the model is a Mistral; 0: without a window."""


def llama3_rope_factors(parameters: Mapping[str, Any], size: int) -> list[float]:
    """Return what Llama 3's rope scaling divides each frequency by, one factor per pair of channels.

    Frequencies whose wavelength is longer than ``original / low`` are slowed by ``factor``, those shorter than
    ``original / high`` stay, and those between are blended (Llama 3.1 model card and reference code).

    Args:
        parameters: ``rope_theta factor low_freq_factor high_freq_factor original_max_position_embeddings``.
        size: Width of one head.

    Example:
        >>> published = dict(rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        ...                  original_max_position_embeddings=8192)
        >>> factors = llama3_rope_factors(published, 128)
        >>> factors[0], factors[-1]
        (1.0, 8.0)
    """
    factor, original = parameters["factor"], parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    factors = []
    for pair in range(size // 2):
        wavelength = 2 * math.pi * parameters["rope_theta"] ** (2 * pair / size)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(float(factor))
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


class Llama(Decoder):
    """The Llama family.

    Peculiar: in a GGUF the rows of query and key are reordered, since llama.cpp rotates neighbouring channels
    and transformers rotates halves; Llama 3's rope scaling is a tensor of factors there.
    """

    architecture: ClassVar[str] = "LlamaForCausalLM"
    gguf_architecture: ClassVar[str] = "llama"
    uneven_gguf_architecture: ClassVar[str | None] = "deci"

    def after_cutting(self, model: Model) -> Model:
        """Write a model whose heads do not divide its width as a Mistral: transformers refuses such a Llama."""
        config = model.config
        if not config.hidden_size % config.num_attention_heads:
            return model
        if config.attention_bias or config.mlp_bias or uneven.counts(config) is not None:
            raise indivisible(config, "a Llama with biases or blocks of several kinds")
        from smidgen.models.families._as_llama import as_mistral

        return as_mistral(model)

    def reads_gguf(self, metadata: Mapping[str, Any]) -> bool:
        """Take what no other family with Llama's architecture name claims: files without a sliding window."""
        return super().reads_gguf(metadata) and SLIDING_WINDOW not in metadata

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build a ``LlamaConfig``; Llama 3's rope parameters are recognised from their factors."""
        from transformers import LlamaConfig

        return LlamaConfig(**self.common_config(metadata, tensors))

    def common_config(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Return the configuration values that a GGUF of Llama's architecture name holds."""
        values = super().common_config(metadata, tensors)
        if ROPE_FACTORS in tensors:
            values["rope_parameters"] = _llama3_rope(tensors[ROPE_FACTORS], values)
        if metadata.get(f"{self.gguf_architecture}.{SCALING}") == LONG:
            prefix, context = self.gguf_architecture, values["max_position_embeddings"]
            rope = _long_rope.read(metadata, tensors, prefix, values["head_dim"])
            original = rope["original_max_position_embeddings"]
            rope |= _long_rope.unusual_attention_factor(metadata, prefix, context, original)
            values["rope_parameters"] |= rope
        return values

    def _rope(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        scaling = f"{self.gguf_architecture}.{SCALING}"
        return super()._rope({**metadata, scaling: "none"} if metadata.get(scaling) == LONG else metadata)

    def rope_of(self, config: Any) -> dict[str, Any]:
        """Return the keys of a configuration's rotary embedding; the factors of a long one are tensors."""
        if not _long_rope.is_long(config):
            return super().rope_of(config)
        return {
            "rope.freq_base": float(config.rope_parameters["rope_theta"]),
            SCALING: LONG,
            _long_rope.ORIGINAL: _long_rope.original_context(config),
            _long_rope.ATTENTION_FACTOR: _long_rope.attention_factor(config),
        }

    def rope_metadata(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of the rotary embedding; Llama 3's scaling is a tensor (`gguf_extras`)."""
        if parameters.get("rope_type") == "llama3":
            parameters = {"rope_theta": parameters["rope_theta"]}
        return super().rope_metadata(parameters)

    def gguf_rows(self, name: str, config: Any) -> torch.Tensor | None:
        """Interleave the two halves of every query and key head."""
        import torch

        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        module = name.split(".")[-2]
        if module not in heads:
            return None
        size = head_size(config)
        return torch.arange(heads[module] * size).view(heads[module], 2, size // 2).transpose(1, 2).reshape(-1)

    def gguf_extras(self, config: Any) -> dict[str, torch.Tensor]:
        """Return Llama 3's rope factors, or those of a long rope, where the configuration scales the rope."""
        import torch

        rope = config.rope_parameters
        if rope.get("rope_type") != "llama3":
            return _long_rope.tensors_of(config)
        return {ROPE_FACTORS: torch.tensor(llama3_rope_factors(rope, head_size(config)), dtype=torch.float32)}


def _llama3_rope(factors: np.ndarray[Any, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Recognise Llama 3's published scaling by its factors."""
    stored = [float(value) for value in factors.reshape(-1)]
    rope = {
        "rope_type": "llama3",
        "rope_theta": values["rope_parameters"]["rope_theta"],
        "factor": max(stored),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    expected = llama3_rope_factors(rope, values["head_dim"]) if rope["factor"] > 0 else []
    if len(expected) != len(stored) or not all(
        abs(one - two) <= 1e-3 * two for one, two in zip(stored, expected, strict=True)
    ):
        raise Unsupported(
            "The GGUF file's rope factors are not those of Llama 3's published scaling.",
            remedy="Use the model's safetensors, whose config.json holds the scaling.",
        )
    return rope
