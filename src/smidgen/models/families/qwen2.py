"""Qwen2 and Qwen2.5 (0.5B to 7B)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models.families._decoder import Decoder, head_size

if TYPE_CHECKING:
    import numpy as np


class Qwen2(Decoder):
    """The Qwen2 family.

    Peculiar: query, key and value carry biases, and llama.cpp rotates halves as transformers does, so no row
    changes its place.
    """

    architecture: ClassVar[str] = "Qwen2ForCausalLM"
    gguf_architecture: ClassVar[str] = "qwen2"
    biased: ClassVar[tuple[str, ...]] = ("query", "key", "value")

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build a ``Qwen2Config``."""
        from transformers import Qwen2Config

        return Qwen2Config(**self.common_config(metadata, tensors))

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return Qwen2's keys; neither a sliding window in use nor heads that miss the width can be written."""
        if head_size(config) * config.num_attention_heads != config.hidden_size:
            raise Unsupported(
                f"llama.cpp runs Qwen2 only with heads that together are as wide as the model, and this one has "
                f"{config.num_attention_heads} of {head_size(config)} and a width of {config.hidden_size}.",
                remedy="Ask for safetensors instead.",
            )
        if config.use_sliding_window:
            raise Unsupported(
                "llama.cpp runs Qwen2 with full attention, and this model uses a sliding window.",
                remedy="Ask for safetensors instead.",
            )
        return super().gguf_metadata(config)
