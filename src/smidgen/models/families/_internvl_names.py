"""Names of the weights of InternVL's eyes: as they are published, and as transformers has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from smidgen.models.vision.family import State

TOWER, PROJECTOR = "vision_tower.", "multi_modal_projector."
PROJECTED = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
RENAMED = (
    ("embeddings.class_embedding", "embeddings.cls_token"),
    ("embeddings.position_embedding", "embeddings.position_embeddings"),
    ("embeddings.patch_embedding.", "embeddings.patch_embeddings.projection."),
    ("encoder.layers.", "encoder.layer."),
    (".attn.proj.", ".attention.projection_layer."),
    (".attn.q_norm.", ".attention.q_norm."),
    (".attn.k_norm.", ".attention.k_norm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
)
"""Parts of names in published files and in transformers."""

SCALES = {"ls1": "lambda_1", "ls2": "lambda_2"}
FUSED = re.compile(r"(.*)\.attn\.qkv\.(weight|bias)")
BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.*)")
DIVIDED = re.compile(r"(.*)\.attention\.q_proj\.(weight|bias)")


def own_names(name: str, value: torch.Tensor) -> State:
    """Name a published weight of the eyes as transformers does."""
    if name.startswith((TOWER, PROJECTOR)):
        return {name: value}
    if name.startswith("mlp1."):
        _, number, rest = name.split(".")
        return {f"{PROJECTOR}{PROJECTED.get(number, number)}.{rest}": value}
    if not name.startswith("vision_model."):
        return {name: value}
    inner = name.removeprefix("vision_model.")
    for published, own in RENAMED:
        inner = inner.replace(published, own)
    fused = FUSED.fullmatch(inner)
    if fused is not None:
        parts = zip("qkv", value.chunk(3), strict=True)
        return {f"{TOWER}{fused[1]}.attention.{role}_proj.{fused[2]}": part.clone() for role, part in parts}
    first, _, last = inner.rpartition(".")
    return {f"{TOWER}{first}.{SCALES.get(last, last)}": value}


def published_names(name: str, value: torch.Tensor, eyes: State) -> State:
    """Name a weight of the eyes as it is published; nothing where it is written with another."""
    import torch

    if name.startswith(PROJECTOR):
        part, rest = name.removeprefix(PROJECTOR).split(".")
        number = next(key for key, own in PROJECTED.items() if own == part)
        return {f"mlp1.{number}.{rest}": value}
    inner = name.removeprefix(TOWER)
    divided = DIVIDED.fullmatch(inner)
    if divided is not None:
        parts = [eyes[f"{TOWER}{divided[1]}.attention.{role}_proj.{divided[2]}"] for role in "qkv"]
        inner, value = f"{divided[1]}.attn.qkv.{divided[2]}", torch.cat(parts)
    elif ".attention.k_proj." in inner or ".attention.v_proj." in inner:
        return {}
    for published, own in RENAMED:
        inner = inner.replace(own, published)
    first, _, last = inner.rpartition(".")
    scales = {own: published for published, own in SCALES.items()}
    return {f"vision_model.{first}.{scales.get(last, last)}": value}


IN_GGUF = {
    "embeddings.cls_token": "v.class_embd",
    "embeddings.position_embeddings": "v.position_embd.weight",
    "embeddings.patch_embeddings.projection.weight": "v.patch_embd.weight",
    "embeddings.patch_embeddings.projection.bias": "v.patch_embd.bias",
}
IN_BLOCK = {
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.q_norm": "attn_q_norm",
    "attention.k_norm": "attn_k_norm",
    "attention.projection_layer": "attn_out",
    "layernorm_before": "ln1",
    "layernorm_after": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def projector_names(module: Any) -> dict[str, str]:
    """Map every weight of the eyes to its name in a GGUF of llama.cpp's projector ``internvl``."""
    numbers = {own: number for number, own in PROJECTED.items()}
    found = {}
    for name, _ in module.named_parameters():
        inner = name.removeprefix(TOWER)
        block = BLOCK.fullmatch(inner)
        if name.startswith(PROJECTOR):
            part, kind = name.removeprefix(PROJECTOR).split(".")
            found[name] = f"mm.model.mlp.{numbers[part]}.{kind}"
        elif block is None:
            found[name] = IN_GGUF[inner]
        else:
            part, _, kind = block[2].rpartition(".")
            scale = {own: f"{published}.weight" for published, own in SCALES.items()}.get(kind)
            found[name] = f"v.blk.{block[1]}.{scale or f'{IN_BLOCK[part]}.{kind}'}"
    return found
