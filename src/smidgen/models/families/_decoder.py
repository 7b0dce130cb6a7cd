"""What the Llama-shaped families share: names, anatomy, and the common GGUF keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.anatomy import Anatomy, Block, Projection
from smidgen.models.checkpoint.tokenizer import special_ids
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
ACTIVATIONS = {"silu": "SiLU", "gelu_pytorch_tanh": "GELU (tanh)"}


def head_size(config: Any) -> int:
    """Width of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def indivisible(config: Any, kind: str) -> Unsupported:
    """Say that transformers does not load a configuration whose heads do not divide its width."""
    return Unsupported(
        f"transformers loads {kind} only where the heads divide the width, "
        f"and this cut leaves {config.num_attention_heads} heads and a width of {config.hidden_size}.",
        remedy="Keep another count of heads or channels.",
    )


def required(metadata: Mapping[str, Any], key: str) -> Any:
    """Return a metadata value, or say that the file lacks it."""
    if key not in metadata:
        raise DamagedFile(f"The GGUF file's metadata lacks {key!r}.", remedy="Fetch or convert the file again.")
    return metadata[key]


def count(metadata: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a metadata value that must be a whole number of at least 1."""
    value = required(metadata, key) if default is None else metadata.get(key, default)
    if isinstance(value, list):
        raise Unsupported(
            f"The GGUF file gives {key!r} layer by layer, and only models whose layers are alike can be taken apart.",
            remedy="Such a file can still be run and measured.",
        )
    if type(value) is not int or not 0 < value < 1 << 31:
        raise DamagedFile(
            f"The GGUF file's {key!r} is {value!r}, not a count.", remedy="Fetch or convert the file again."
        )
    return value


def positive(metadata: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """Return a metadata value that must be a finite number above 0."""
    value = required(metadata, key) if default is None else metadata.get(key, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise DamagedFile(
            f"The GGUF file's {key!r} is {value!r}, not a number above 0.", remedy="Fetch or convert the file again."
        )
    return float(value)


class Decoder(Family):
    """A decoder of pre-norm blocks of grouped-query attention and a gated MLP.

    Attributes:
        projections: Module inside the block and name in a GGUF, by role; roles that share a module are fused.
        biased: Roles whose projection carries a bias.
        norms: Norms of a block and their names in a GGUF, in the order of computation.
        norm_before: The norm that each site reads.
        norm_after: The norm that a projection's output passes, by the projection's role.
        head_norms: Norm inside the attention and its name in a GGUF, by the role that feeds it.
        activation: What llama.cpp computes in the MLP of this architecture.
        partial_rotary: Whether only a part of each head's channels may be rotated.
    """

    projections: ClassVar[Mapping[str, tuple[str, str]]] = PROJECTIONS
    biased: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[Mapping[str, str]] = NORMS
    norm_before: ClassVar[Mapping[str, str]] = {
        "attention_input": "input_layernorm",
        "mlp_input": "post_attention_layernorm",
    }
    norm_after: ClassVar[Mapping[str, str]] = {}
    head_norms: ClassVar[Mapping[str, tuple[str, str]]] = {}
    activation: ClassVar[str] = "silu"
    partial_rotary: ClassVar[bool] = False

    def anatomy(self, config: Any) -> Anatomy:
        """Name every part; layout as in transformers' ``LlamaForCausalLM``."""
        blocks = tuple(self._block(config, index) for index in range(config.num_hidden_layers))
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

    def turning_length(self, config: Any) -> int | None:
        """Return the original context of a long rope."""
        from smidgen.models.families import _long_rope

        return _long_rope.original_context(config) if _long_rope.is_long(config) else None

    def _block(self, config: Any, index: int) -> Block:
        path, rows = f"model.layers.{index}", self._fused_rows(config)
        return Block(
            index=index,
            path=path,
            projections={
                role: Projection(role, f"{path}.{module}", rows.get(role))
                for role, (module, _) in self.projections.items()
            },
            norms=tuple(f"{path}.{norm}" for norm in self.norms),
            query_heads=config.num_attention_heads,
            key_value_heads=config.num_key_value_heads,
            head_size=head_size(config),
            neurons=config.intermediate_size,
            norm_before={role: f"{path}.{norm}" for role, norm in self.norm_before.items()},
            norm_after={role: f"{path}.{norm}" for role, norm in self.norm_after.items()},
            head_norms={role: f"{path}.{norm}" for role, (norm, _) in self.head_norms.items()},
        )

    def _fused_rows(self, config: Any) -> dict[str, tuple[int, int]]:
        """Return which rows of its module each role has, where several share one."""
        size, modules = head_size(config), [module for module, _ in self.projections.values()]
        lengths = {
            "query": config.num_attention_heads * size,
            "key": config.num_key_value_heads * size,
            "value": config.num_key_value_heads * size,
        }
        rows, ends = {}, dict.fromkeys(modules, 0)
        for role, (module, _) in self.projections.items():
            if modules.count(module) > 1:
                first, ends[module] = ends[module], ends[module] + lengths.get(role, config.intermediate_size)
                rows[role] = (first, ends[module])
        return rows

    def gguf_names(self, config: Any) -> dict[str, str]:
        """Map state-dictionary names to GGUF names."""
        names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
        if not config.tie_word_embeddings:
            names["lm_head.weight"] = "output.weight"
        for index in range(config.num_hidden_layers):
            inner, outer = f"model.layers.{index}", f"blk.{index}"
            for role, (path, name) in self.projections.items():
                names[f"{inner}.{path}.weight"] = f"{outer}.{name}.weight"
                if role in self.biased:
                    names[f"{inner}.{path}.bias"] = f"{outer}.{name}.bias"
            for path, name in (*self.norms.items(), *self.head_norms.values()):
                names[f"{inner}.{path}.weight"] = f"{outer}.{name}.weight"
        return names

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the keys that llama.cpp reads for such a decoder.

        Raises:
            Unsupported: llama.cpp would compute something else than the configuration says.
        """
        activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
        if activation != self.activation:
            raise Unsupported(
                f"llama.cpp runs {self.gguf_architecture} with {ACTIVATIONS[self.activation]}, and this model has "
                f"{activation}.",
                remedy="Ask for safetensors instead.",
            )
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
            "rope.dimension_count": head_size(config),
            "vocab_size": config.vocab_size,
        }
        return {f"{prefix}.{key}": value for key, value in (values | self.rope_of(config)).items()}

    def rope_of(self, config: Any) -> dict[str, Any]:
        """Return the keys of a configuration's rotary embedding, without the architecture's name."""
        return self.rope_metadata(config.rope_parameters)

    def rope_metadata(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of the rotary embedding, without the architecture's name."""
        values: dict[str, Any] = {"rope.freq_base": float(parameters["rope_theta"])}
        kind = parameters.get("rope_type", "default")
        if kind == "linear":
            values |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(parameters["factor"])}
        elif kind != "default":
            raise Unsupported(
                f"Rope scaling {kind!r} has no place in a GGUF of the architecture {self.gguf_architecture!r}.",
                remedy="Ask for safetensors instead.",
            )
        return values

    def common_config(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
        """Return the configuration values that a GGUF holds for every such decoder.

        Raises:
            DamagedFile: A value is missing or cannot be.
            Unsupported: A value asks for what this family does not have.
        """
        prefix = self.gguf_architecture
        hidden = count(metadata, f"{prefix}.embedding_length")
        heads = count(metadata, f"{prefix}.attention.head_count")
        key_value_heads = count(metadata, f"{prefix}.attention.head_count_kv", heads)
        if heads % key_value_heads:
            raise DamagedFile(f"The GGUF file's {heads} heads do not divide among {key_value_heads} key/value heads.")
        blocks = count(metadata, f"{prefix}.block_count")
        if blocks > len(tensors):
            raise DamagedFile(f"The GGUF file claims {blocks:,} blocks and holds {len(tensors):,} tensors.")
        special = special_ids(metadata)
        return {
            "architectures": [self.architecture],
            "num_hidden_layers": blocks,
            "max_position_embeddings": count(metadata, f"{prefix}.context_length"),
            "hidden_size": hidden,
            "intermediate_size": count(metadata, f"{prefix}.feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": key_value_heads,
            "head_dim": self._head_size(metadata, hidden, heads),
            # GGUF stores a float32: 9.99999975e-06 stands for the published 1e-05.
            "rms_norm_eps": float(f"{positive(metadata, f'{prefix}.attention.layer_norm_rms_epsilon'):.6g}"),
            "rope_parameters": self._rope(metadata),
            "vocab_size": len(required(metadata, "tokenizer.ggml.tokens")),
            "tie_word_embeddings": "output.weight" not in tensors,
            "bos_token_id": special.get("bos"),
            "eos_token_id": special.get("eos"),
            "pad_token_id": special.get("padding"),
        }

    def _head_size(self, metadata: Mapping[str, Any], hidden: int, heads: int) -> int:
        prefix = self.gguf_architecture
        if f"{prefix}.attention.key_length" not in metadata and hidden % heads:
            raise DamagedFile(f"The GGUF file's {heads} heads do not divide its width of {hidden}.")
        size = count(metadata, f"{prefix}.attention.key_length", max(1, hidden // heads))
        if size % 2:
            raise DamagedFile(f"The GGUF file's head size of {size} is odd, and rotation takes channels in pairs.")
        for key in ("attention.value_length", *(() if self.partial_rotary else ("rope.dimension_count",))):
            if count(metadata, f"{prefix}.{key}", size) != size:
                raise Unsupported(
                    f"The GGUF file's {prefix}.{key} is not its head size of {size}, as this family has it.",
                    remedy="Such a file can still be run and measured.",
                )
        return size

    def _rope(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        prefix = self.gguf_architecture
        rope: dict[str, Any] = {
            "rope_type": "default",
            "rope_theta": positive(metadata, f"{prefix}.rope.freq_base", 10000.0),
        }
        scaling = metadata.get(f"{prefix}.rope.scaling.type", "none")
        if scaling == "linear":
            rope |= {"rope_type": "linear", "factor": positive(metadata, f"{prefix}.rope.scaling.factor")}
        elif scaling not in ("none", ""):
            raise Unsupported(
                f"The GGUF file's rope scaling {scaling!r} is not known for the architecture {prefix!r}.",
                remedy="Use the model's safetensors.",
            )
        return rope
