"""What the Llama-shaped families share: names, anatomy, and the common GGUF keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile
from smidgen.models.anatomy import Anatomy, Block, Projection
from smidgen.models.families import Family

if TYPE_CHECKING:
    import numpy as np

PROJECTIONS = {
    "query": ("self_attn.q_proj", "attn_q"),
    "key": ("self_attn.k_proj", "attn_k"),
    "value": ("self_attn.v_proj", "attn_v"),
    "output": ("self_attn.o_proj", "attn_output"),
    "gate": ("mlp.gate_proj", "ffn_gate"),
    "up": ("mlp.up_proj", "ffn_up"),
    "down": ("mlp.down_proj", "ffn_down"),
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def head_size(config: Any) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def required(metadata: Mapping[str, Any], key: str) -> Any:
    """Return a metadata value, or say that the file lacks it."""
    if key not in metadata:
        raise DamagedFile(f"The GGUF file's metadata lacks {key!r}.", remedy="Fetch or convert the file again.")
    return metadata[key]


class Decoder(Family):
    """A Llama-shaped decoder: pre-norm blocks of grouped-query attention and a gated MLP.

    Attributes:
        biased: Roles whose projection carries a bias.
    """

    biased: ClassVar[tuple[str, ...]] = ()

    def anatomy(self, config: Any) -> Anatomy:
        """Name every part; layout as in transformers' ``LlamaForCausalLM``."""
        blocks = tuple(
            Block(
                index=index,
                path=f"model.layers.{index}",
                projections={
                    role: Projection(role, f"model.layers.{index}.{path}") for role, (path, _) in PROJECTIONS.items()
                },
                norms=tuple(f"model.layers.{index}.{norm}" for norm in NORMS),
                query_heads=config.num_attention_heads,
                key_value_heads=config.num_key_value_heads,
                head_size=head_size(config),
                neurons=config.intermediate_size,
            )
            for index in range(config.num_hidden_layers)
        )
        return Anatomy(
            embedding="model.embed_tokens",
            head="lm_head",
            tied=bool(config.tie_word_embeddings),
            final_norm="model.norm",
            layers="model.layers",
            rotary="model.rotary_emb",
            blocks=blocks,
            hidden_size=config.hidden_size,
            vocabulary_size=config.vocab_size,
            context_length=config.max_position_embeddings,
        )

    def gguf_names(self, config: Any) -> dict[str, str]:
        """Map state-dictionary names to GGUF names."""
        names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
        if not config.tie_word_embeddings:
            names["lm_head.weight"] = "output.weight"
        for index in range(config.num_hidden_layers):
            inner, outer = f"model.layers.{index}", f"blk.{index}"
            for role, (path, name) in PROJECTIONS.items():
                names[f"{inner}.{path}.weight"] = f"{outer}.{name}.weight"
                if role in self.biased:
                    names[f"{inner}.{path}.bias"] = f"{outer}.{name}.bias"
            for path, name in NORMS.items():
                names[f"{inner}.{path}.weight"] = f"{outer}.{name}.weight"
        return names

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the keys that llama.cpp reads for a Llama-shaped decoder."""
        prefix = self.gguf_architecture
        values: dict[str, Any] = {
            "block_count": config.num_hidden_layers,
            "context_length": config.max_position_embeddings,
            "embedding_length": config.hidden_size,
            "feed_forward_length": config.intermediate_size,
            "attention.head_count": config.num_attention_heads,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
            "attention.key_length": head_size(config),
            "attention.value_length": head_size(config),
            "rope.freq_base": float(config.rope_parameters["rope_theta"]),
            "rope.dimension_count": head_size(config),
            "vocab_size": config.vocab_size,
        }
        return {f"{prefix}.{key}": value for key, value in values.items()}

    def common_config(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Return the configuration values that a GGUF holds for every Llama-shaped decoder."""
        prefix = self.gguf_architecture
        hidden = required(metadata, f"{prefix}.embedding_length")
        heads = required(metadata, f"{prefix}.attention.head_count")
        size = metadata.get(f"{prefix}.attention.key_length") or metadata.get(f"{prefix}.rope.dimension_count")
        scaling = metadata.get(f"{prefix}.rope.scaling.type", "none")
        rope: dict[str, Any] = {
            "rope_type": "default",
            "rope_theta": float(metadata.get(f"{prefix}.rope.freq_base", 10000.0)),
        }
        if scaling == "linear":
            rope |= {"rope_type": "linear", "factor": float(required(metadata, f"{prefix}.rope.scaling.factor"))}
        elif scaling not in ("none", ""):
            raise DamagedFile(
                f"The GGUF file's rope scaling {scaling!r} is not known for the family {prefix!r}.",
                remedy="Use the model's safetensors.",
            )
        return {
            "architectures": [self.architecture],
            "num_hidden_layers": required(metadata, f"{prefix}.block_count"),
            "max_position_embeddings": required(metadata, f"{prefix}.context_length"),
            "hidden_size": hidden,
            "intermediate_size": required(metadata, f"{prefix}.feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": metadata.get(f"{prefix}.attention.head_count_kv", heads),
            "head_dim": size or hidden // heads,
            # GGUF stores a float32: 9.99999975e-06 stands for the published 1e-05.
            "rms_norm_eps": float(f"{required(metadata, f'{prefix}.attention.layer_norm_rms_epsilon'):.6g}"),
            "rope_parameters": rope,
            "vocab_size": len(required(metadata, "tokenizer.ggml.tokens")),
            "tie_word_embeddings": "output.weight" not in tensors,
            "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
        }
