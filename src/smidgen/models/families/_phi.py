"""What the Phi families share: a rope with factors of its own for short and for long texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.families import _long_rope
from smidgen.models.families._decoder import Decoder, count, head_size

if TYPE_CHECKING:
    import numpy as np
    import torch

WINDOW = "attention.sliding_window"
PUBLISHED_CONTEXT = "smidgen.context_length"
"""The context as published, where a GGUF may only promise the window."""


class Phi(Decoder):
    """What Phi-3 and Phi-3.5 MoE share.

    Peculiar: texts that are longer than the original context are rotated by other frequencies than shorter ones
    (long rope). llama.cpp takes both sets of factors as tensors. It does not look through a sliding window, so a
    GGUF promises no longer context than the window, and what was published stands beside it.
    """

    partial_rotary: ClassVar[bool] = True

    def rotary_size(self, config: Any) -> int:
        """Return how many channels of a head are rotated."""
        return int(head_size(config) * config.rope_parameters.get("partial_rotary_factor", 1.0))

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the common keys with the window, which bounds the context.

        Raises:
            Unsupported: llama.cpp would compute something else than the configuration says.
        """
        if head_size(config) * config.num_attention_heads != config.hidden_size:
            raise Unsupported(
                f"llama.cpp runs {self.gguf_architecture} only with heads that together are as wide as the model, and "
                f"this one has {config.num_attention_heads} of {head_size(config)} and a width of "
                f"{config.hidden_size}.",
                remedy="Ask for safetensors instead.",
            )
        values, prefix, window = super().gguf_metadata(config), self.gguf_architecture, config.sliding_window
        values[f"{prefix}.{WINDOW}"] = window or 0
        if window is not None and window < config.max_position_embeddings:
            values |= {f"{prefix}.context_length": window, PUBLISHED_CONTEXT: config.max_position_embeddings}
        return values

    def rope_of(self, config: Any) -> dict[str, Any]:
        """Return the keys of the rope; the factors are tensors (`gguf_extras`)."""
        rope = config.rope_parameters
        values: dict[str, Any] = {"rope.dimension_count": self.rotary_size(config)}
        if not _long_rope.is_long(config):
            return values | self.rope_metadata(rope)
        return values | {
            "rope.freq_base": float(rope["rope_theta"]),
            _long_rope.ORIGINAL: _long_rope.original_context(config),
            _long_rope.ATTENTION_FACTOR: self.attention_factor(config),
        }

    def attention_factor(self, config: Any) -> float:
        """Return what sine and cosine are multiplied by where the rope is long."""
        return _long_rope.attention_factor(config)

    def gguf_extras(self, config: Any) -> dict[str, torch.Tensor]:
        """Return the factors of a long rope."""
        return _long_rope.tensors_of(config)

    def common_config(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Return the configuration values that a GGUF of these families holds."""
        values, prefix = super().common_config(metadata, tensors), self.gguf_architecture
        values["max_position_embeddings"] = count(metadata, PUBLISHED_CONTEXT, values["max_position_embeddings"])
        window = f"{prefix}.{WINDOW}"
        values["sliding_window"] = None if metadata.get(window, 0) == 0 else count(metadata, window)
        size = values["head_dim"]
        rotated = count(metadata, f"{prefix}.rope.dimension_count", size)
        if rotated > size or rotated % 2:
            raise DamagedFile(f"The GGUF file rotates {rotated} channels of heads of {size}.")
        values["rope_parameters"]["partial_rotary_factor"] = rotated / size
        if any(name in tensors for name in _long_rope.FACTORS.values()):
            values["rope_parameters"] |= _long_rope.read(metadata, tensors, prefix, rotated)
        return values
