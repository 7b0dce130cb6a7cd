"""Every family can lose layers, heads, neurons, width and tokens; what is left reloads as before."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhimoeConfig,
    Qwen2Config,
)

from smidgen import registry
from smidgen.errors import Unsupported
from smidgen.export import gguf, safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.models.vision.family import SeeingFamily
from smidgen.shrink.prune.structures.head import Head
from smidgen.shrink.prune.structures.layer import Layer
from smidgen.shrink.prune.structures.neuron import Neuron
from smidgen.shrink.prune.structures.vocabulary import Vocabulary
from smidgen.shrink.prune.structures.width import Width

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 1024,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8, "tie_word_embeddings": True}


@dataclass(frozen=True)
class Case:
    kind: Any
    changes: dict[str, Any]
    splitting: str


CASES = {
    "gemma2": Case(Gemma2Config, GEMMA | {"attn_logit_softcapping": 4.0, "final_logit_softcapping": 6.0}, "gemma"),
    "gemma3": Case(Gemma3TextConfig, GEMMA | {"sliding_window_pattern": 2}, "gemma"),
    "llama": Case(LlamaConfig, {"tie_word_embeddings": True}, "llama-bpe"),
    "mistral": Case(MistralConfig, {"sliding_window": 64}, "mistral"),
    "phi3": Case(Phi3Config, {"sliding_window": 256}, "phi"),
    "phimoe": Case(
        PhimoeConfig,
        {"num_local_experts": 4, "attention_bias": True, "lm_head_bias": True, "router_jitter_noise": 0.0},
        "phi",
    ),
    "qwen2": Case(Qwen2Config, {}, "qwen2"),
}
FAMILIES = [
    name
    for name in registry.names("smidgen.models.families")
    if not issubclass(registry.find("smidgen.models.families", name), SeeingFamily)
]
"""All but those whose language model is of another family."""

every_family = pytest.mark.parametrize("family", FAMILIES)
IDS = torch.randint(4, 250, (1, 32), generator=torch.Generator().manual_seed(3))
"""Tokens of single bytes, which no cut removes."""


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Any:
    """Make each family's model once."""

    @cache
    def made(family: str) -> Model:
        case, folder = CASES[family], tmp_path_factory.mktemp(family)
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(case.kind(**(SMALL | case.changes))).eval()
        for name, parameter in module.named_parameters():
            if name.endswith("norm.weight"):
                parameter.data += torch.rand_like(parameter) - 0.5
        module.save_pretrained(folder)
        published_tokenizer(case.splitting, 1024).save_pretrained(folder)
        return read_folder(folder, torch.float32)

    return made


@torch.no_grad()
def logits_of(module: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    logits: torch.Tensor = module(ids, use_cache=False).logits[0]
    return logits


def reloads(model: Model, ids: torch.Tensor, folder: Path, hard_text: str) -> None:
    """Assert that a model gives its logits and its tokens in plain transformers and in llama.cpp."""
    expected = logits_of(model.module, ids)
    safetensors.write(model, folder / "model", dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    torch.testing.assert_close(logits_of(plain, ids), expected, atol=1e-4, rtol=1e-4)
    assert plain.config.max_position_embeddings == 128
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    text = hard_text.replace("x́", "x")  # llama.cpp does not compose characters as Qwen2's tokenizer does
    before = model.tokenizer(text)["input_ids"]
    assert tokenizer(text)["input_ids"] == before
    assert tokenizer.decode(before) == model.tokenizer.decode(before)
    assert tokenizer.chat_template == model.tokenizer.chat_template
    heads = {block.query_heads * block.head_size for block in model.anatomy.blocks}
    if model.family.gguf_architecture in ("phi3", "phimoe", "qwen2") and heads != {model.anatomy.hidden_size}:
        with pytest.raises(Unsupported, match="as wide as the model"):
            gguf.write(model, folder / "model.gguf")
        return
    gguf.write(model, folder / "model.gguf")
    with PromptScorer(folder / "model.gguf", threads=1, context=64) as scorer:
        found = torch.from_numpy(numpy.array(scorer.logits(ids[0].tolist())))
        plain_text = text.replace("é", "e")
        assert scorer.tokenize(plain_text, special=True) == model.tokenizer(plain_text)["input_ids"]
    assert float(torch.cosine_similarity(expected, found, dim=-1).min()) > 0.999


def test_every_family_is_tried() -> None:
    assert set(CASES) == set(FAMILIES)
    assert len(CASES) == 7


@every_family
def test_layers_go(make: Any, family: str, tmp_path: Path, hard_text: str) -> None:
    model = make(family)
    pruned = Layer().remove(model, torch.tensor([0, 3]))
    assert len(pruned.anatomy.blocks) == 2
    shorter = copy.deepcopy(model.module)
    shorter.model.layers = torch.nn.ModuleList([shorter.model.layers[0], shorter.model.layers[3]])
    shorter.config.num_hidden_layers = 2
    if getattr(shorter.config, "layer_types", None):
        shorter.config.layer_types = [shorter.config.layer_types[index] for index in (0, 3)]
    torch.testing.assert_close(logits_of(pruned.module), logits_of(shorter), atol=1e-5, rtol=1e-5)
    reloads(pruned, IDS, tmp_path, hard_text)


@every_family
def test_neurons_go(make: Any, family: str, tmp_path: Path, hard_text: str) -> None:
    model = make(family)
    mlps = [mlp for block in model.anatomy.blocks for mlp in block.mlps]
    kept = torch.stack([torch.randperm(96)[:64].sort().values for _ in mlps])
    pruned = Neuron().remove(model, kept)
    muted = model.clone()
    for mlp, stays in zip(mlps, kept, strict=True):
        goes = [neuron for neuron in range(96) if neuron not in stays.tolist()]
        muted.weight(mlp.projections["down"].weight).data[:, goes] = 0
    torch.testing.assert_close(logits_of(pruned.module), logits_of(muted.module), atol=1e-4, rtol=1e-4)
    reloads(pruned, IDS, tmp_path, hard_text)


@every_family
def test_heads_go(make: Any, family: str, tmp_path: Path, hard_text: str) -> None:
    model = make(family)
    pruned = Head().remove(model, [torch.tensor([0, 3])] * 4)  # one of each group
    muted = model.clone()
    for block in model.anatomy.blocks:
        size = block.head_size
        muted.weight(block.projections["output"].weight).data[:, size : 3 * size] = 0
    torch.testing.assert_close(logits_of(pruned.module), logits_of(muted.module), atol=1e-4, rtol=1e-4)
    reloads(pruned, IDS, tmp_path, hard_text)


@every_family
def test_width_goes(make: Any, family: str, tmp_path: Path, hard_text: str) -> None:
    model, kept = make(family), torch.randperm(64, generator=torch.Generator().manual_seed(6))[:32].sort().values
    pruned = Width().remove(model, kept)
    with torch.no_grad():
        before, after = (each.module.get_submodule(each.anatomy.embedding)(IDS) for each in (model, pruned))
    torch.testing.assert_close(after, before[..., kept])
    reloads(pruned, IDS, tmp_path, hard_text)


@every_family
def test_tokens_go(make: Any, family: str, tmp_path: Path, hard_text: str) -> None:
    model = make(family)
    scores = torch.rand(1024, generator=torch.Generator().manual_seed(4))
    kept = Vocabulary().select(model, scores, 768)
    Vocabulary().check(model, kept)
    pruned = Vocabulary().remove(model, kept)
    assert (pruned.config.vocab_size, pruned.module.lm_head.out_features, len(kept)) == (768, 768, 768)
    ids = torch.randint(0, 768, (1, 32), generator=torch.Generator().manual_seed(5))
    expected = logits_of(model.module, kept[ids])[:, kept]
    torch.testing.assert_close(logits_of(pruned.module, ids), expected, atol=1e-4, rtol=1e-4)
    assert pruned.tokenizer.decode(pruned.tokenizer(hard_text)["input_ids"]) == (
        model.tokenizer.decode(model.tokenizer(hard_text)["input_ids"])
    )
    reloads(pruned, ids, tmp_path, hard_text)
