"""Writes the smallest thing that llama.cpp takes for an eye: a random CLIP of two blocks in front of a model.

An image of 32 x 32 pixels becomes 16 tokens. What it makes of an image means nothing, but differs between images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

SIZE, PATCH, WIDTH, INNER, BLOCKS = 32, 8, 32, 64, 2
TOKENS = (SIZE // PATCH) ** 2


def write(path: Path, model_width: int) -> Path:
    """Write a projector for models of a width."""
    writer = GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    numbers = {
        "image_size": SIZE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "feed_forward_length": INNER,
        "projection_dim": model_width,
        "block_count": BLOCKS,
        "attention.head_count": 2,
    }
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for key in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{key}", [0.5, 0.5, 0.5])
    random = np.random.default_rng(0)
    for name, shape in _shapes(model_width).items():
        writer.add_tensor(name, (random.standard_normal(shape) * 0.5).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(model_width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "v.class_embd": (WIDTH,),
        "v.patch_embd.weight": (WIDTH, 3, PATCH, PATCH),
        "v.position_embd.weight": (TOKENS + 1, WIDTH),
    }
    layers = {"v.pre_ln": (WIDTH,), "mm.0": (model_width, WIDTH), "mm.2": (model_width, model_width)}
    for block in range(BLOCKS):
        layers |= {f"v.blk.{block}.{name}": (WIDTH, WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_out")}
        layers |= {f"v.blk.{block}.{name}": (WIDTH,) for name in ("ln1", "ln2")}
        layers |= {f"v.blk.{block}.ffn_up": (INNER, WIDTH), f"v.blk.{block}.ffn_down": (WIDTH, INNER)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
