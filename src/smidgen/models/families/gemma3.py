"""Gemma 3, the text models (270M, 1B)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models.families._decoder import count, positive
from smidgen.models.families._gemma import GLOBAL, LOCAL, Gemma

if TYPE_CHECKING:
    import numpy as np

LOCAL_BASE = "rope.freq_base_swa"


class Gemma3(Gemma):
    """The Gemma 3 family, without pictures.

    Peculiar: queries and keys are normed head by head; five layers with a sliding window stand before each that
    sees everything, and the two kinds rotate by different bases. Source: arXiv 2503.19786.
    """

    architecture: ClassVar[str] = "Gemma3ForCausalLM"
    gguf_architecture: ClassVar[str] = "gemma3"
    head_norms: ClassVar[Mapping[str, tuple[str, str]]] = {
        "query": ("self_attn.q_norm", "attn_q_norm"),
        "key": ("self_attn.k_norm", "attn_k_norm"),
    }
    period: ClassVar[int] = 6
    largest: ClassVar[int] = 62

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build a ``Gemma3TextConfig``."""
        from transformers import Gemma3TextConfig

        values = self.common_config(metadata, tensors)
        base = positive(metadata, f"gemma3.{LOCAL_BASE}", 10000.0)
        values["rope_parameters"] = {
            GLOBAL: values["rope_parameters"],
            LOCAL: {"rope_type": "default", "rope_theta": base},
        }
        return Gemma3TextConfig(**values, sliding_window=count(metadata, "gemma3.attention.sliding_window"))

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the common keys; bounded scores cannot be written."""
        for name in ("attn_logit_softcapping", "final_logit_softcapping"):
            if getattr(config, name) is not None:
                raise Unsupported(
                    f"llama.cpp runs gemma3 with unbounded scores, and this model has {name}.",
                    remedy="Ask for safetensors instead.",
                )
        return super().gguf_metadata(config)

    def rope_of(self, config: Any) -> dict[str, Any]:
        """Return the keys of both rotary embeddings; only that of the full layers may be scaled."""
        local = config.rope_parameters[LOCAL]
        if local.get("rope_type", "default") != "default":
            raise Unsupported(
                "llama.cpp does not scale the rope of gemma3's layers with a sliding window, and this model does.",
                remedy="Ask for safetensors instead.",
            )
        return self.rope_metadata(config.rope_parameters[GLOBAL]) | {LOCAL_BASE: float(local["rope_theta"])}
