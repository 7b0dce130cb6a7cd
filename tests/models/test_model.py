"""A model in memory, its parts and its history."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig

from smidgen.errors import DamagedFile
from smidgen.models import families
from smidgen.models.anatomy import SITE_ROLES, Projection
from smidgen.models.lineage import Lineage, Origin, Step
from smidgen.models.model import Model

ORIGIN = Origin("tiny", "0" * 64, 100, 50)


@pytest.fixture
def model(published_tokenizer: Callable[..., Any]) -> Model:
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, intermediate_size=48,
        vocab_size=400, tie_word_embeddings=True,
    )  # fmt: skip
    family = families.for_architecture("LlamaForCausalLM")
    return Model(LlamaForCausalLM(config).eval(), published_tokenizer("smollm", 400), family, Lineage(ORIGIN))


def test_a_tied_head_counts_once(model: Model) -> None:
    attention, mlp = 32 * 32 * 2 + 32 * 16 * 2, 3 * 32 * 48
    assert model.parameter_count() == 400 * 32 + 2 * (attention + mlp + 2 * 32) + 32
    assert model.weight("lm_head.weight") is model.weight("model.embed_tokens.weight")
    assert model.device == torch.device("cpu")


def test_a_clone_is_changed_alone_and_keeps_the_tie(model: Model) -> None:
    copy = model.clone()
    with torch.no_grad():
        copy.weight("model.embed_tokens.weight").zero_()
        copy.config.vocab_size = 7
    assert torch.count_nonzero(copy.weight("lm_head.weight")) == 0
    assert torch.count_nonzero(model.weight("lm_head.weight")) > 0
    assert (model.config.vocab_size, model.anatomy.vocabulary_size) == (400, 400)
    assert copy.tokenizer is model.tokenizer


def test_sites_follow_the_computation(model: Model) -> None:
    sites = list(model.anatomy.sites())
    assert [site.name for site in sites] == [
        *(f"model.layers.{block}.{role}" for block in (0, 1) for role in SITE_ROLES),
        "head",
    ]
    assert sites[0].modules == tuple(f"model.layers.0.self_attn.{name}_proj" for name in "qkv")
    seen: dict[str, int] = {}
    handles = [
        model.module.get_submodule(path).register_forward_pre_hook(
            lambda _, inputs, path=path: seen.update({path: inputs[0].data_ptr()})
        )
        for site in sites
        for path in site.modules
    ]
    with torch.no_grad():
        model.module(torch.arange(5)[None])
    for handle in handles:
        handle.remove()
    for site in sites:
        assert len({seen[path] for path in site.modules}) == 1, "layers of a site read one input"
    assert [path for site in sites for path in site.modules] == list(seen)


def test_matrices_have_their_parts(model: Model) -> None:
    parts = model.anatomy.matrices()
    assert parts["model.embed_tokens.weight"] == "embedding" and "lm_head.weight" not in parts
    assert parts["model.layers.1.self_attn.o_proj.weight"] == "attention"
    assert parts["model.layers.1.mlp.down_proj.weight"] == "mlp"
    assert Projection("query", "a.b", (0, 4)).weight == "a.b.weight"


def test_lineage_counts_layers_and_tokens_in_the_origin() -> None:
    lineage = Lineage(ORIGIN).without_layers((0, 2, 3, 5)).without_layers((1, 3)).then("prune", keep=2)
    assert lineage.kept_layers == (2, 5)
    assert lineage.without_tokens((4, 8, 9)).without_tokens((2, 0)).kept_tokens == (9, 4)
    assert lineage.steps == (Step("prune", {"keep": 2}),)
    assert Lineage(ORIGIN).kept_layers is None and Lineage(ORIGIN).kept_tokens is None


def test_lineage_counts_heads_block_by_block_in_the_origin() -> None:
    lineage = Lineage(ORIGIN).without_heads(((0, 1, 3), (0, 2, 3), (1, 2))).without_layers((0, 2))
    assert lineage.kept_heads == ((0, 1, 3), (1, 2))
    fewer = lineage.without_heads(((2,), (0, 1)))
    assert fewer.kept_heads == ((3,), (1, 2)) == Lineage.from_dict(fewer.to_dict()).kept_heads
    assert Lineage(ORIGIN).without_layers((1,)).kept_heads is None


def test_a_step_leaves_the_model_it_was_given(model: Model) -> None:
    after = model.with_step("quantize", format="q4_0")
    assert [step.operation for step in after.lineage.steps] == ["quantize"]
    assert model.lineage.steps == () and after.module is model.module


def test_lineage_goes_through_json(tmp_path: Path) -> None:
    lineage = Lineage(ORIGIN).then("prune", keep=[1, 2], ratio=0.5).without_layers((0, 2)).without_tokens((3,))
    (tmp_path / "a.json").write_text(json.dumps(lineage.to_dict()))
    assert Lineage.read(tmp_path / "a.json") == lineage


@pytest.mark.parametrize(
    "content",
    ["", "[]", "7", "{}", '{"origin": 1, "steps": []}', '{"origin": {"name": "x"}, "steps": []}', '{"steps": []}',
     json.dumps({"origin": Lineage(ORIGIN).to_dict()["origin"], "steps": [{"unknown": 1}]}),
     json.dumps({"origin": Lineage(ORIGIN).to_dict()["origin"], "steps": [], "kept_layers": 3})],
)  # fmt: skip
def test_a_damaged_record_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"a\.json cannot be read"):
        Lineage.read(tmp_path / "a.json")


def test_a_family_that_says_nothing_says_so() -> None:
    blank = families.Family()
    for ask in (blank.anatomy, blank.gguf_metadata, blank.gguf_names):
        with pytest.raises(TypeError, match="Family"):
            ask(PretrainedConfig())
    assert blank.gguf_rows("a.weight", None) is None and blank.gguf_extras(None) == {}
