"""Names of the weights of InternVL's eyes: as they are published, and as transformers has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
