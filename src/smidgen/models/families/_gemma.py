"""What the Gemma families share: norms on both sides, a scaled embedding, layers with and without a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import Unsupported
from smidgen.models.anatomy import Anatomy
from smidgen.models.families._decoder import Decoder, count, head_size, indivisible

if TYPE_CHECKING:
    import numpy as np

    from smidgen.models.model import Model

LOCAL, GLOBAL = "sliding_attention", "full_attention"
_OTHERWISE = "Ask for safetensors instead."


def layer_types(period: int, layers: int) -> list[str]:
    """Return which layers see only a window: of every ``period`` all but the last; 0: all.

    Example:
        >>> layer_types(3, 4)
        ['sliding_attention', 'sliding_attention', 'full_attention', 'sliding_attention']
    """
    return [LOCAL if period == 0 or index % period < period - 1 else GLOBAL for index in range(layers)]


class Gemma(Decoder):
    """What Gemma 2 and Gemma 3 share.

    Peculiar: norms scale by 1 + weight, and a GGUF holds the sum; attention and MLP are normed before and
    after; the embedding is scaled by the root of its width and shared with the head; layers with a sliding
    window alternate with layers that see everything.

    Attributes:
        period: Of how many layers the last sees everything, as published.
        largest: Count of layers at which llama.cpp scales attention by the width over the heads, as the 27B
            model does, and not by the head's size.
    """

    activation: ClassVar[str] = "gelu_pytorch_tanh"
    norms: ClassVar[Mapping[str, str]] = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
    norm_before: ClassVar[Mapping[str, str]] = {
        "attention_input": "input_layernorm",
        "mlp_input": "pre_feedforward_layernorm",
    }
    norm_after: ClassVar[Mapping[str, str]] = {
        "output": "post_attention_layernorm",
        "down": "post_feedforward_layernorm",
    }
    period: ClassVar[int]
    largest: ClassVar[int]

    def after_cutting(self, model: Model) -> Model:
        """Refuse heads that do not divide the width, which transformers does not load."""
        if model.config.hidden_size % model.config.num_attention_heads:
            raise indivisible(model.config, "a Gemma")
        return model

    def anatomy(self, config: Any) -> Anatomy:
        """Name every part; layout as in transformers' ``Gemma2ForCausalLM``."""
        period = self._found_period(config)
        return replace(
            super().anatomy(config),
            layer_kinds=tuple(config.layer_types[:period]) if period and period > 1 else (),
            layers_fixed=config.num_hidden_layers == self.largest,
            norm_offset=1.0,
            embedding_scale=config.hidden_size**0.5,
            logit_cap=config.final_logit_softcapping,
        )

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the common keys and those of the window.

        Raises:
            Unsupported: llama.cpp would compute something else than the configuration says.
        """
        self._check_attention(config)
        if not config.tie_word_embeddings:
            raise Unsupported(f"llama.cpp runs {self.gguf_architecture} with a tied head only.", remedy=_OTHERWISE)
        prefix, period = self.gguf_architecture, self._period_of(config)
        values = super().gguf_metadata(config) | {f"{prefix}.attention.sliding_window": config.sliding_window}
        if period != self.period:
            values[f"{prefix}.attention.sliding_window_pattern"] = period
        return values

    def common_config(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Return the configuration values that a GGUF of Gemma holds."""
        values, prefix = super().common_config(metadata, tensors), self.gguf_architecture
        pattern = f"{prefix}.attention.sliding_window_pattern"
        period = 0 if metadata.get(pattern) == 0 else count(metadata, pattern, self.period)
        values["layer_types"] = layer_types(period, values["num_hidden_layers"])
        values["query_pre_attn_scalar"] = self._scalar(
            values["num_hidden_layers"], values["hidden_size"], values["num_attention_heads"], values["head_dim"]
        )
        return values

    def _scalar(self, layers: int, hidden: int, heads: int, size: int) -> int:
        """Return what llama.cpp divides attention scores by the root of."""
        return hidden // heads if layers == self.largest else size

    def _check_attention(self, config: Any) -> None:
        prefix = self.gguf_architecture
        scalar = self._scalar(
            config.num_hidden_layers, config.hidden_size, config.num_attention_heads, head_size(config)
        )
        if config.query_pre_attn_scalar != scalar:
            raise Unsupported(
                f"llama.cpp scales the attention of {prefix} with {config.num_hidden_layers} layers by 1/√{scalar}, "
                f"and this model by 1/√{config.query_pre_attn_scalar}.",
                remedy=_OTHERWISE,
            )
        if config.use_bidirectional_attention or not config.sliding_window:
            raise Unsupported(f"llama.cpp runs {prefix} as a causal model with a sliding window.", remedy=_OTHERWISE)

    def _found_period(self, config: Any) -> int | None:
        """Return after how many layers a full one follows, 0 for none; None where they lie otherwise."""
        layers: int = config.num_hidden_layers
        candidates: list[int] = [self.period, *range(layers + 1)]
        return next((period for period in candidates if layer_types(period, layers) == config.layer_types), None)

    def _period_of(self, config: Any) -> int:
        period = self._found_period(config)
        if period is not None:
            return period
        raise Unsupported(
            f"llama.cpp runs {self.gguf_architecture} with a full layer after every few with a sliding window, and "
            "this model's layers follow each other otherwise.",
            remedy="Keep layers so that the full ones lie at equal distances, or ask for safetensors instead.",
        )
