"""Phi-3.5 MoE."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.anatomy import MLP_ROLES, Anatomy, Block, Projection
from smidgen.models.families._decoder import PROJECTIONS, count, positive
from smidgen.models.families._long_rope import stored_attention_factor
from smidgen.models.families._phi import Phi

if TYPE_CHECKING:
    import numpy as np
    import torch

ROUTING, JITTER = "smidgen.routing", "smidgen.router_jitter_noise"
SUMMED = "sum"
"""How a file says that its routers and experts are scaled so that llama.cpp adds the experts up."""
ROUTER_FACTOR, DOWN_FACTOR = 2.0**-10, 2.0
BIASES = ("query", "key", "value", "output")
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
USUAL_JITTER = 0.01
PUBLISHED = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2", "router": "gate"}
"""Names inside the module of experts, as transformers has them and as they are published."""
_OTHERWISE = "Ask for safetensors instead."


class Phimoe(Phi):
    """The Phi-3.5 MoE family.

    Peculiar: two of several experts see each token. The router takes the best first and then the best of the rest,
    each with a weight of its own among those within 2·jitter of it, which is 1 unless another comes that near; so
    the two experts' outputs are added up. llama.cpp instead gives them weights that sum to 1, by a softmax over the
    two. In a GGUF the routers are therefore scaled by 2⁻¹⁰, which keeps their order and brings both weights to ½,
    and the experts' last matrix by 2. Norms are LayerNorms, llama.cpp's do not subtract the mean: what is written
    into the residual stream is centred (`smidgen.models.centring`). Source: arXiv 2404.14219; sparse mixer:
    arXiv 2409.12136.
    """

    architecture: ClassVar[str] = "PhimoeForCausalLM"
    gguf_architecture: ClassVar[str] = "phimoe"
    partial_rotary: ClassVar[bool] = False
    projections: ClassVar[Mapping[str, tuple[str, str]]] = {
        role: names for role, names in PROJECTIONS.items() if role not in MLP_ROLES
    }

    def anatomy(self, config: Any) -> Anatomy:
        """Name every part; layout as in transformers' ``PhimoeForCausalLM`` with the experts apart."""
        return replace(super().anatomy(config), mean_free=True)

    def _block(self, config: Any, index: int) -> Block:
        block = super()._block(config, index)
        experts = {
            f"{role}.{number}": Projection(role, f"{block.path}.mlp.experts.{number}.{role}_proj")
            for number in range(config.num_local_experts)
            for role in MLP_ROLES
        }
        return replace(
            block,
            projections=block.projections | experts,
            experts=config.num_local_experts,
            experts_used=config.num_experts_per_tok,
            router=f"{block.path}.mlp.router",
        )

    def with_experts(self, config: Any, count: int) -> Any:
        """Return a copy of a configuration for blocks of so many experts."""
        config = copy.deepcopy(config)
        config.num_local_experts = count
        return config

    def published_name(self, name: str) -> str:
        """Return the name in published safetensors, where experts have numbered matrices."""
        before, mlp, rest = name.partition(".mlp.")
        if not mlp:
            return name
        for own, published in PUBLISHED.items():
            rest = rest.replace(own, published)
        return f"{before}.block_sparse_moe.{rest}"

    def gguf_names(self, config: Any) -> dict[str, str]:
        """Map state-dictionary names to GGUF names; the experts of a block share one tensor for each role."""
        names = super().gguf_names(config) | {"model.norm.bias": "output_norm.bias"}
        if config.lm_head_bias:
            names["lm_head.bias"] = "output.bias"
        for block in self.anatomy(config).blocks:
            outer = f"blk.{block.index}"
            names |= {f"{block.path}.{path}.bias": f"{outer}.{name}.bias" for path, name in NORMS.items()}
            names[f"{block.router}.weight"] = f"{outer}.ffn_gate_inp.weight"
            if config.attention_bias:
                for role in BIASES:
                    names[f"{block.projections[role].path}.bias"] = f"{outer}.{PROJECTIONS[role][1]}.bias"
            for role in MLP_ROLES:
                for mlp in block.mlps:
                    names[mlp.projections[role].weight] = f"{outer}.ffn_{role}_exps.weight"
        return names

    def gguf_extras(self, config: Any) -> dict[str, torch.Tensor]:
        """Return the rope's factors, and zeros for biases that llama.cpp asks for and the model has not."""
        import torch

        extras = super().gguf_extras(config)
        if not config.lm_head_bias:
            extras["output.bias"] = torch.zeros(config.vocab_size)
        if not config.attention_bias:
            for index in range(config.num_hidden_layers):
                extras[f"blk.{index}.attn_output.bias"] = torch.zeros(config.hidden_size)
        return extras

    def gguf_factor(self, name: str, metadata: Mapping[str, Any]) -> float:
        """Return what routers and the experts' last matrices are multiplied by."""
        if metadata.get(ROUTING) != SUMMED or ".mlp." not in name:
            return 1.0
        return {"router": ROUTER_FACTOR, "down_proj": DOWN_FACTOR}.get(name.split(".")[-2], 1.0)

    def gguf_metadata(self, config: Any) -> dict[str, Any]:
        """Return the common keys and those of the experts.

        Raises:
            Unsupported: llama.cpp would compute something else than the configuration says.
        """
        if config.tie_word_embeddings:
            raise Unsupported("llama.cpp runs phimoe with a head of its own only.", remedy=_OTHERWISE)
        return super().gguf_metadata(config) | {
            "phimoe.expert_count": config.num_local_experts,
            "phimoe.expert_used_count": config.num_experts_per_tok,
            ROUTING: SUMMED,
            JITTER: float(config.router_jitter_noise),
        }

    def attention_factor(self, config: Any) -> float:
        """Return what sine and cosine are multiplied by, which this family states itself."""
        rope = config.rope_parameters
        if rope["short_mscale"] != rope["long_mscale"]:
            raise Unsupported(
                f"llama.cpp scales the rope of phimoe by one factor, and this model by {rope['short_mscale']} in short "
                f"texts and {rope['long_mscale']} in long ones.",
                remedy=_OTHERWISE,
            )
        return float(rope["short_mscale"])

    def config_from_gguf(self, metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Build a ``PhimoeConfig``."""
        from transformers import PhimoeConfig

        values = self.common_config(metadata, tensors)
        rope = values["rope_parameters"]
        del rope["partial_rotary_factor"]
        if rope["rope_type"] == "longrope":
            scale = float(f"{stored_attention_factor(metadata, self.gguf_architecture):.7g}")
            rope |= {"short_mscale": scale, "long_mscale": scale}
        experts, used = count(metadata, "phimoe.expert_count"), count(metadata, "phimoe.expert_used_count")
        if used != 2 or experts < used:
            raise DamagedFile(f"The GGUF file lets {used} of {experts} experts see a token; this family takes two.")
        jitter = positive(metadata, JITTER, USUAL_JITTER) if metadata.get(JITTER) != 0 else 0.0
        return PhimoeConfig(
            **values,
            num_local_experts=experts,
            num_experts_per_tok=used,
            router_jitter_noise=float(f"{jitter:.6g}"),
            attention_bias="blk.0.attn_q.bias" in tensors,
            lm_head_bias="output.bias" in tensors and bool(tensors["output.bias"].any()),
        )
