"""Gemma 2 (2B, 9B, 27B)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models.families._decoder import count, positive
from smidgen.models.families._gemma import Gemma

if TYPE_CHECKING:
    import numpy as np

CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
"""Entries of the configuration, named alike in a GGUF, and what holds where a GGUF does not say."""


class Gemma2(Gemma):
    """The Gemma 2 family.

    Peculiar: scores of attention and logits are bounded by c·tanh(z/c); every other layer sees a window of
    4,096 tokens only. Source: arXiv 2408.00118.
    """

    architecture: ClassVar[str] = "Gemma2ForCausalLM"
    gguf_architecture: ClassVar[str] = "gemma2"
    period: ClassVar[int] = 2
    largest: ClassVar[int] = 46

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build a ``Gemma2Config``."""
        from transformers import Gemma2Config

        caps = {name: positive(metadata, f"gemma2.{name}", default) for name, default in CAPS.items()}
        window = count(metadata, "gemma2.attention.sliding_window", 4096)
        return Gemma2Config(**self.common_config(metadata, tensors), **caps, sliding_window=window)

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the common keys and the two bounds."""
        values = super().gguf_metadata(config)
        for name in CAPS:
            if getattr(config, name) is None:
                raise Unsupported(
                    f"llama.cpp runs gemma2 with bounded scores, and this model has no {name}.",
                    remedy="Ask for safetensors instead.",
                )
            values[f"gemma2.{name}"] = float(getattr(config, name))
        return values
