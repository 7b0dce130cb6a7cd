"""What the Phi families share: a rope with factors of its own for short and for long texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.families._decoder import Decoder, count, head_size, positive

if TYPE_CHECKING:
    import numpy as np
    import torch

FACTORS = {"long_factor": "rope_factors_long.weight", "short_factor": "rope_factors_short.weight"}
"""Entries of the rope's parameters and the tensors that hold them in a GGUF."""
ORIGINAL = "rope.scaling.original_context_length"
ATTENTION_FACTOR = "rope.scaling.attn_factor"
WINDOW = "attention.sliding_window"
PUBLISHED_CONTEXT = "smidgen.context_length"
"""The context as published, where a GGUF may only promise the window."""


def usual_attention_factor(context: int, original: int) -> float:
    """Return √(1 + ln(context / original) / ln(original)), what sine and cosine are multiplied by.

    Source: LongRoPE, arXiv 2402.13753.

    Example:
        >>> round(usual_attention_factor(131072, 4096), 4)
        1.1902
    """
    return math.sqrt(1 + math.log(context / original) / math.log(original)) if context > original else 1.0


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

    def original_context(self, config: Any) -> int:
        """Return the length beyond which the long factors hold; the whole context where there are none."""
        return int(config.rope_parameters.get("original_max_position_embeddings") or config.max_position_embeddings)

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
        if rope.get("rope_type") != "longrope":
            return values | self.rope_metadata(rope)
        return values | {
            "rope.freq_base": float(rope["rope_theta"]),
            ORIGINAL: self.original_context(config),
            ATTENTION_FACTOR: self.attention_factor(config),
        }

    def attention_factor(self, config: Any) -> float:
        """Return what sine and cosine are multiplied by where the rope is long."""
        rope, original = config.rope_parameters, self.original_context(config)
        context = rope["factor"] * original if rope.get("factor") else config.max_position_embeddings
        return float(rope.get("attention_factor") or usual_attention_factor(context, original))

    def gguf_extras(self, config: Any) -> dict[str, torch.Tensor]:
        """Return the factors of a long rope."""
        import torch

        rope = config.rope_parameters
        if rope.get("rope_type") != "longrope":
            return {}
        return {name: torch.tensor(rope[entry], dtype=torch.float32) for entry, name in FACTORS.items()}

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
        if any(name in tensors for name in FACTORS.values()):
            values["rope_parameters"] |= self._long_rope(metadata, tensors, rotated)
        return values

    def _long_rope(
        self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]], rotated: int
    ) -> dict[str, Any]:
        """Return the parameters of a long rope but for its attention factor."""
        rope: dict[str, Any] = {"rope_type": "longrope"}
        for entry, name in FACTORS.items():
            # A float32 as it is spelled: 1.08 and not 1.0800000429153442.
            found = [float(str(value)) for value in tensors[name].reshape(-1)] if name in tensors else []
            if len(found) != rotated // 2 or not all(0 < value < math.inf for value in found):
                raise DamagedFile(f"The GGUF file has not one factor above 0 in {name!r} for each pair of channels.")
            rope[entry] = found
        return rope | {"original_max_position_embeddings": count(metadata, f"{self.gguf_architecture}.{ORIGINAL}")}

    def stored_attention_factor(self, metadata: Mapping[str, Any]) -> float:
        """Return what a GGUF says sine and cosine are multiplied by."""
        return positive(metadata, f"{self.gguf_architecture}.{ATTENTION_FACTOR}", 1.0)
