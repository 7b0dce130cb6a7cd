"""Writes tiny random Mississippis as published: key names, configuration and tokens of H2OVL, and computes them anew.

The second implementation below is plain: nothing of transformers' InternVL, nothing of smidgen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

SIDE, PATCH, WIDTH, INNER, BLOCKS, HEADS = 56, 14, 32, 64, 2, 4
PLACES = (SIDE // PATCH // 2) ** 2
"""Tokens of a tile: four patches become one."""

HIDDEN = 64
TEXTS = {
    "llama": (LlamaConfig, LlamaForCausalLM, 100000.0),
    "mistral": (MistralConfig, MistralForCausalLM, 10000.0),
}
SPECIAL = {"<img>": 500, "</img>": 501, "<IMG_CONTEXT>": 502, "<|prompt|>": 503, "<|answer|>": 504, "<|end|>": 509}
VOCABULARY = 510


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.patch_embedding = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position_embedding = nn.Parameter(torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH) * 0.1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        return torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], 1) + self.position_embedding


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, length, width = hidden.shape
        query, key, value = self.qkv(hidden).reshape(batch, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        shares = (query * (width // HEADS) ** -0.5 @ key.transpose(-2, -1)).softmax(-1)
        return self.proj((shares @ value).transpose(1, 2).reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(hidden)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(), Mlp()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, 1e-6), nn.LayerNorm(WIDTH, 1e-6)
        self.ls1, self.ls2 = nn.Parameter(torch.rand(WIDTH)), nn.Parameter(torch.rand(WIDTH))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.attn(self.norm1(hidden)) * self.ls1
        return hidden + self.mlp(self.norm2(hidden)) * self.ls2


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.encoder = Embeddings(), nn.Module()
        self.encoder.layers = nn.ModuleList(Layer() for _ in range(BLOCKS))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.embeddings(pixels)
        for layer in self.encoder.layers:
            hidden = layer(hidden)
        return hidden


class Mississippi(nn.Module):
    def __init__(self, kind: str, hidden: int = HIDDEN) -> None:
        super().__init__()
        config_class, language_class, theta = TEXTS[kind]
        own = {"sliding_window": None} if kind == "mistral" else {}
        self.config = config_class(
            hidden_size=hidden,
            intermediate_size=hidden if hidden % 256 == 0 else 96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=VOCABULARY,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            initializer_range=0.15,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            rope_parameters={"rope_type": "default", "rope_theta": theta},
            **own,
        )
        self.theta = theta
        self.vision_model, self.language_model = Tower(), language_class(self.config)
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Patch by patch: of every square of four patches one token, its channels row by row."""
        patches, side = self.vision_model(pixels)[:, 1:], SIDE // PATCH
        grid = patches.reshape(len(pixels), side, side, WIDTH)
        rows = []
        for tile in grid:
            for top in range(0, side, 2):
                for left in range(0, side, 2):
                    square = [tile[top + down, left + right] for down in (0, 1) for right in (0, 1)]
                    rows.append(torch.cat(square))
        return self.mlp1(torch.stack(rows))

    def forward(self, ids: torch.Tensor, pixels: torch.Tensor | None = None) -> torch.Tensor:
        embedded = self.language_model.get_input_embeddings()(ids).clone()
        if pixels is not None:
            embedded[ids == SPECIAL["<IMG_CONTEXT>"]] = self.features(pixels)
        return self.language_model(inputs_embeds=embedded).logits


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single characters that, left alone, would put a token before every text."""
    letters = [f"<0x{byte:02X}>" for byte in range(256)] + [chr(code) for code in range(33, 127)] + ["▁"]
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {letter: 3 + number for number, letter in enumerate(letters)}
    vocabulary |= {f"<unused{number}>": number for number in range(len(vocabulary), VOCABULARY)
                   if number not in SPECIAL.values()}  # fmt: skip
    core = Tokenizer(
        models.BPE(vocab=vocabulary | SPECIAL, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    spec: dict[str, Any] = json.loads(core.to_str())
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, sequence],
        "pair": [begin, sequence, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return tokenizer


def published_config(kind: str, hidden: int = HIDDEN) -> dict[str, Any]:
    """The configuration as the published files have it, its values small."""
    language = Mississippi(kind, hidden).config.to_dict()
    del language["rope_parameters"]
    language |= {"rope_theta": TEXTS[kind][2], "rope_scaling": None, "torch_dtype": "bfloat16", "_name_or_path": "x"}
    return {
        "architectures": ["H2OVLChatModel"],
        "auto_map": {"AutoConfig": "configuration_h2ovl_chat.H2OVLChatConfig"},
        "model_type": "h2ovl_chat",
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": SIDE,
        "max_dynamic_patch": 6,
        "min_dynamic_patch": 1,
        "use_thumbnail": True,
        "use_msac": kind == "mistral",
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "h2ogpt2",
        "llm_config": language,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "model_type": "intern_vit_6b",
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_hidden_layers": BLOCKS,
            "num_attention_heads": HEADS,
            "image_size": SIDE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "norm_type": "layer_norm",
            "qkv_bias": True,
            "qk_normalization": False,
            "drop_path_rate": 0.0,
            "use_flash_attn": True,
        },
    }


def write(folder: Path, kind: str, hidden: int = HIDDEN) -> Mississippi:
    """Write a random model of a kind, "llama" or "mistral", and of a width; returns it."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    module = Mississippi(kind, hidden).eval().requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(published_config(kind, hidden)))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, SPECIAL["<|end|>"]]}))
    build_tokenizer().save_pretrained(folder)
    return module
