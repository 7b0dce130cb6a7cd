"""Phi-3 and Phi-3.5 mini."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models.families import _long_rope
from smidgen.models.families._decoder import head_size
from smidgen.models.families._phi import Phi

if TYPE_CHECKING:
    import numpy as np

    from smidgen.models.model import Model


class Phi3(Phi):
    """The Phi-3 family.

    Peculiar: query, key and value are the rows of one matrix, gate and up those of another, in a GGUF too; the
    rope may turn a part of each head's channels only. Source: arXiv 2404.14219.
    """

    architecture: ClassVar[str] = "Phi3ForCausalLM"
    gguf_architecture: ClassVar[str] = "phi3"
    projections: ClassVar[Mapping[str, tuple[str, str]]] = {
        "query": ("self_attn.qkv_proj", "attn_qkv"),
        "key": ("self_attn.qkv_proj", "attn_qkv"),
        "value": ("self_attn.qkv_proj", "attn_qkv"),
        "output": ("self_attn.o_proj", "attn_output"),
        "gate": ("mlp.gate_up_proj", "ffn_up"),
        "up": ("mlp.gate_up_proj", "ffn_up"),
        "down": ("mlp.down_proj", "ffn_down"),
    }

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build a ``Phi3Config``."""
        from transformers import Phi3Config

        values = self.common_config(metadata, tensors)
        rope = values["rope_parameters"]
        if rope["rope_type"] == "longrope":
            original = rope["original_max_position_embeddings"]
            context = values["max_position_embeddings"]
            rope |= _long_rope.unusual_attention_factor(metadata, self.gguf_architecture, context, original)
            values["original_max_position_embeddings"] = original
        return Phi3Config(**values)

    def for_cutting(self, model: Model, structure: str) -> Model:
        """Write a model with a long rope as a Llama before its heads or its width are cut.

        transformers' Phi-3 takes the factors only where the width over the count of heads is the size of a head,
        whatever the configuration says that this size is (``Phi3Config.validate_rope``); its Llama has no such bond.
        """
        config = model.config
        window = config.sliding_window
        whole = self.rotary_size(config) == head_size(config) and not (
            window is not None and window < config.max_position_embeddings
        )
        if structure not in ("head", "width") or not _long_rope.is_long(config) or not whole:
            return model
        from smidgen.models.families._as_llama import as_llama

        return as_llama(model)

    def require_loadable(self, config: Any) -> None:
        """Refuse a long rope with heads that do not make up the width, which transformers does not load."""
        size = config.hidden_size // config.num_attention_heads
        if _long_rope.is_long(config) and size != head_size(config):
            raise Unsupported(
                f"transformers loads a Phi-3 with a long rope only with heads that together are as wide as the model, "
                f"and this cut leaves {config.num_attention_heads} of {head_size(config)} and a width of "
                f"{config.hidden_size}.",
                remedy="Cut layers, neurons or tokens instead.",
            )
