"""Writes tiny random Phi-3 visions as published: key names and configuration; and computes what they see anew.

The second implementation below is plain numpy, patch by patch and token by token: nothing of transformers or smidgen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import save_file

WIDTH, HEADS, INNER, BLOCKS, SIDE, PATCH = 32, 4, 64, 3, 56, 14
TOWER = {
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "num_hidden_layers": BLOCKS,
    "image_size": SIDE,
    "patch_size": PATCH,
}
HIDDEN, VOCABULARY = 64, 512
CONFIG: dict[str, Any] = {
    "_name_or_path": "Phi-3.5-vision-instruct",
    "architectures": ["Phi3VForCausalLM"],
    "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_phi3_v.Phi3VConfig",
        "AutoModelForCausalLM": "modeling_phi3_v.Phi3VForCausalLM",
    },
    "bos_token_id": 1,
    "embd_layer": {
        "embedding_cls": "image",
        "hd_transform_order": "sub_glb",
        "projection_cls": "mlp",
        "use_hd_transform": True,
        "with_learnable_separator": True,
    },
    "embd_pdrop": 0.0,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "img_processor": {
        "image_dim_out": WIDTH,
        "model_name": "openai/clip-vit-large-patch14-336",
        "name": "clip_vision_model",
        "num_img_tokens": 144,
    },
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 2048,
    "model_type": "phi3_v",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "original_max_position_embeddings": 600,
    "pad_token_id": 0,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "long_factor": [1.0, 1.2, 1.6, 2.5, 5.0, 11.0, 25.0, 60.0],
        "short_factor": [1.0, 1.02, 1.05, 1.08, 1.1, 1.3, 1.7, 2.0],
        "type": "su",
    },
    "rope_theta": 10000.0,
    "sliding_window": 2048,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.38.1",
    "use_cache": True,
    "vocab_size": VOCABULARY,
    "vision_config": TOWER,
}
TEMPLATE = (
    "{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{- '<|assistant|>\n' -}}"
    "{% endif %}"
)
EYES = "model.vision_embed_tokens."
TOWER_NAME = f"{EYES}img_processor.vision_model."


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every weight of a published file, at tiny size."""
    tower = {
        "embeddings.class_embedding": (WIDTH,),
        "embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": ((SIDE // PATCH) ** 2 + 1, WIDTH),
    }
    for norm in ("pre_layrnorm", "post_layernorm"):
        tower |= {f"{norm}.weight": (WIDTH,), f"{norm}.bias": (WIDTH,)}
    for block in range(BLOCKS):
        layers = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
        layers |= {"mlp.fc1": (INNER, WIDTH), "mlp.fc2": (WIDTH, INNER), "layer_norm1": (WIDTH,)}
        for name, shape in (layers | {"layer_norm2": (WIDTH,)}).items():
            tower[f"encoder.layers.{block}.{name}.weight"] = shape
            tower[f"encoder.layers.{block}.{name}.bias"] = shape[:1]
    shapes: dict[str, tuple[int, ...]] = {f"{TOWER_NAME}{name}": shape for name, shape in tower.items()}
    shapes |= {f"{EYES}glb_GN": (1, 1, 4 * WIDTH), f"{EYES}sub_GN": (1, 1, 1, 4 * WIDTH)}
    shapes |= {f"{EYES}img_projection.0.weight": (HIDDEN, 4 * WIDTH), f"{EYES}img_projection.0.bias": (HIDDEN,)}
    shapes |= {f"{EYES}img_projection.2.weight": (HIDDEN, HIDDEN), f"{EYES}img_projection.2.bias": (HIDDEN,)}
    shapes |= {name: (VOCABULARY, HIDDEN) for name in ("model.embed_tokens.weight", "lm_head.weight")}
    for layer in range(CONFIG["num_hidden_layers"]):
        shapes |= {
            f"model.layers.{layer}.self_attn.qkv_proj.weight": (3 * HIDDEN, HIDDEN),
            f"model.layers.{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"model.layers.{layer}.mlp.gate_up_proj.weight": (192, HIDDEN),
            f"model.layers.{layer}.mlp.down_proj.weight": (HIDDEN, 96),
            f"model.layers.{layer}.input_layernorm.weight": (HIDDEN,),
            f"model.layers.{layer}.post_attention_layernorm.weight": (HIDDEN,),
        }
    return shapes | {"model.norm.weight": (HIDDEN,)}


def published_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, shape in published_shapes().items():
        value = torch.randn(shape, generator=generator) * (0.2 if len(shape) > 1 else 0.1)
        state[name] = value + 1 if "norm" in name and name.endswith("weight") else value
    return state


def write(folder: Path, tokenizer: Any, weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """Write a folder as published.

    Args:
        folder: Where to.
        tokenizer: A tokenizer of as many tokens; it gets the published template.
        weights: Random ones where None.
        changes: Entries of the configuration that are otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    save_file(weights or published_weights(), folder / "model.safetensors", {"format": "pt"})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def normed(x: numpy.ndarray, weights: dict[str, numpy.ndarray], name: str) -> numpy.ndarray:
    middle = x - x.mean(-1, keepdims=True)
    scaled = middle / numpy.sqrt((middle**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: numpy.ndarray, weights: dict[str, numpy.ndarray], name: str) -> numpy.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def features_of_tile(tile: numpy.ndarray, weights: dict[str, numpy.ndarray], blocks: int) -> numpy.ndarray:
    """Return what CLIP makes of a tile after so many blocks, ``[rows, columns, width]``, the class token left out."""
    count, stream = SIDE // PATCH, [weights["embeddings.class_embedding"]]
    for row in range(count):
        for column in range(count):
            patch = tile[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            stream.append((weights["embeddings.patch_embedding.weight"] * patch).sum(axis=(1, 2, 3)))
    x = normed(numpy.stack(stream) + weights["embeddings.position_embedding.weight"], weights, "pre_layrnorm")
    for block in range(blocks):
        name, size = f"encoder.layers.{block}", WIDTH // HEADS
        inner = normed(x, weights, f"{name}.layer_norm1")
        query, key, value = (linear(inner, weights, f"{name}.self_attn.{role}_proj") for role in "qkv")
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            shares = numpy.exp(scores - scores.max(-1, keepdims=True))
            heads.append(shares / shares.sum(-1, keepdims=True) @ value[:, part])
        x = x + linear(numpy.concatenate(heads, -1), weights, f"{name}.self_attn.out_proj")
        inner = linear(normed(x, weights, f"{name}.layer_norm2"), weights, f"{name}.mlp.fc1")
        x = x + linear(inner / (1 + numpy.exp(-1.702 * inner)), weights, f"{name}.mlp.fc2")
    return x[1:].reshape(count, count, WIDTH)


def tokens_of_image(
    pixels: torch.Tensor, grid: tuple[int, int], state: dict[str, torch.Tensor], *, blocks: int = BLOCKS - 1
) -> numpy.ndarray:
    """Return an image's tokens as the language model reads them: the large page, a separator, the small page."""
    weights = {
        name.removeprefix(TOWER_NAME).removeprefix(EYES): value.double().numpy() for name, value in state.items()
    }
    maps = [features_of_tile(tile.double().numpy(), weights, blocks) for tile in pixels]
    (columns, rows), side = grid, SIDE // PATCH // 2

    def page(tile_at: Callable[[int, int], numpy.ndarray], rows: int, columns: int) -> list[numpy.ndarray]:
        found = []
        for y in range(rows * side):
            for x in range(columns * side):
                tile, top, left = tile_at(y // side, x // side), 2 * (y % side), 2 * (x % side)
                four = [tile[top, left], tile[top, left + 1], tile[top + 1, left], tile[top + 1, left + 1]]
                found.append(numpy.concatenate(four))
            found.append(weights["sub_GN"].reshape(-1))
        return found

    large = page(lambda row, column: maps[1 + row * columns + column], rows, columns)
    small = page(lambda row, column: maps[0], 1, 1)
    stream = numpy.stack([*large, weights["glb_GN"].reshape(-1), *small])
    inner = linear(stream, weights, "img_projection.0")
    erf = numpy.vectorize(math.erf)
    return linear(inner * (1 + erf(inner / math.sqrt(2))) / 2, weights, "img_projection.2")
