"""Mistral: everything that publishes itself as ``MistralForCausalLM``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.models.families._decoder import count
from smidgen.models.families.llama import SLIDING_WINDOW, Llama

if TYPE_CHECKING:
    import numpy as np

PUBLISHED_CONTEXT = "smidgen.context_length"
"""The context as published, where a GGUF may only promise the window."""


class Mistral(Llama):
    """The Mistral family.

    Peculiar: every layer sees only the last ``sliding_window`` tokens, where the configuration has a window.
    llama.cpp runs these models under Llama's architecture name with full attention, which is the same as long
    as the context does not exceed the window. So a GGUF promises no longer context than the window; what was
    published stands beside it under a key that llama.cpp passes over. The window's key marks the file as a
    Mistral's, with 0 where there is no window.
    """

    architecture: ClassVar[str] = "MistralForCausalLM"

    def reads_gguf(self, metadata: Mapping[str, Any]) -> bool:
        """Take files of Llama's architecture name that speak of a sliding window."""
        return metadata.get("general.architecture") == self.gguf_architecture and SLIDING_WINDOW in metadata

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build a ``MistralConfig``."""
        from transformers import MistralConfig

        values = self.common_config(metadata, tensors)
        values["sliding_window"] = None if metadata[SLIDING_WINDOW] == 0 else count(metadata, SLIDING_WINDOW)
        values["max_position_embeddings"] = count(metadata, PUBLISHED_CONTEXT, values["max_position_embeddings"])
        return MistralConfig(**values)

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return Llama's keys with the window, which bounds the context."""
        values, context = super().gguf_metadata(config), config.max_position_embeddings
        window = config.sliding_window
        values[SLIDING_WINDOW] = window or 0
        if window is not None and window < context:
            values |= {f"{self.gguf_architecture}.context_length": window, PUBLISHED_CONTEXT: context}
        return values
