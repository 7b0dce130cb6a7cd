"""Layers of alternating kinds go so that those that stay keep their order."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

from smidgen.errors import InvalidInput
from smidgen.export import gguf
from smidgen.models import families
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model
from smidgen.recipe.shapes import candidates
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.structures.layer import Layer, best_in_order

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "vocab_size": 512,
    "sliding_window": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
WINDOWS = torch.randint(3, 500, (2, 24), generator=torch.Generator().manual_seed(1))


def build(kind: Any, config: Any, tokenizer: Any = None) -> Model:
    torch.manual_seed(0)
    origin = Origin(name="tiny", sha256="", bytes=0, parameters=0)
    return Model(kind(config).eval(), tokenizer, families.for_architecture(kind.__name__), Lineage(origin))


@pytest.fixture(scope="module")
def gemma2(published_tokenizer: Any) -> Model:
    config = Gemma2Config(**SIZES, num_hidden_layers=8)
    return build(Gemma2ForCausalLM, config, published_tokenizer("gemma", 512))


def test_a_family_says_which_layers_follow_each_other(gemma2: Model) -> None:
    assert gemma2.anatomy.layer_kinds == ("sliding_attention", "full_attention")
    gemma3 = build(Gemma3ForCausalLM, Gemma3TextConfig(**SIZES, num_hidden_layers=13))
    assert gemma3.anatomy.layer_kinds == ("sliding_attention",) * 5 + ("full_attention",)
    assert gemma3.anatomy.keeps_order([1, 2, 3, 4, 6, 11]) and not gemma3.anatomy.keeps_order([0, 1, 2, 5])
    config = Gemma2Config(**SIZES, num_hidden_layers=3, layer_types=["sliding_attention"] * 3)
    assert build(Gemma2ForCausalLM, config).anatomy.layer_kinds == ()


@pytest.mark.parametrize("keep", [2, 3, 5, 7])
def test_the_best_choice_that_keeps_the_order_is_found(gemma2: Model, keep: int) -> None:
    scores = torch.rand(8, generator=torch.Generator().manual_seed(keep))
    fitting = [kept for kept in combinations(range(8), keep) if gemma2.anatomy.keeps_order(kept)]
    best = max(fitting, key=lambda kept: float(scores[list(kept)].sum()))
    assert best_in_order(gemma2.anatomy, scores.tolist(), keep) == list(best)
    assert Layer().select(gemma2, scores, keep).tolist() == list(best)


@pytest.mark.parametrize("criterion", ["block_influence", "l2", "loss"])
def test_what_stays_can_be_written(gemma2: Model, criterion: str, tmp_path: Path) -> None:
    pruned = Prune("layer", criterion, keep=5).apply(gemma2, WINDOWS)
    assert pruned.config.layer_types == gemma2.config.layer_types[:5]
    gguf.write(pruned, tmp_path / "x.gguf")


def test_a_list_that_breaks_the_order_is_refused(gemma2: Model) -> None:
    with pytest.raises(InvalidInput, match="cannot stay together: sliding_attention, full_attention must follow"):
        Prune("layer", keep=2, chosen=(0, 2)).apply(gemma2, WINDOWS)
    assert Prune("layer", keep=2, chosen=(0, 3)).apply(gemma2, WINDOWS).config.num_hidden_layers == 2


def test_a_model_known_by_its_count_of_layers_keeps_them_all(gemma2: Model, published_tokenizer: Any) -> None:
    assert candidates(gemma2)[0] == [8, 7, 6, 5, 4, 3]
    deep = Gemma2Config(**SIZES, num_hidden_layers=46)
    assert candidates(build(Gemma2ForCausalLM, deep, published_tokenizer("gemma", 512)))[0] == [46]
