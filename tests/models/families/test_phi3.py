"""Phi-3's fused matrices behave as the separate ones of the same model written as a Llama."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from smidgen.errors import Unsupported
from smidgen.export import gguf, safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models import families
from smidgen.models.checkpoint.gguf import read
from smidgen.models.checkpoint.tokenizer import from_gguf, to_gguf
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.load import read_folder, read_gguf
from smidgen.models.model import Model
from smidgen.recipe.shapes import Shape, _shapes, table_of
from smidgen.shrink.prune import criteria
from smidgen.shrink.prune.comparison import compare_criteria
from smidgen.shrink.prune.criteria import Evidence
from smidgen.shrink.prune.cutting import gathered
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.allocate import choices
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.quantize.sensitivity import probe

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 1024,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.15,
}
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 32,
    "short_factor": [1.0 + 0.1 * pair for pair in range(8)],
    "long_factor": [1.0 + pair for pair in range(8)],
}
WINDOWS = torch.randint(3, 1000, (4, 32), generator=torch.Generator().manual_seed(1))
ORIGIN = Lineage(Origin(name="tiny", sha256="", bytes=0, parameters=0))


@pytest.fixture(scope="module")
def twins(published_tokenizer: Any) -> tuple[Model, Model]:
    """A Phi-3 and a Llama with the same weights."""
    torch.manual_seed(0)
    phi, llama = Phi3ForCausalLM(Phi3Config(**SIZES)).eval(), LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    llama.load_state_dict(unfused(phi))
    tokenizer = published_tokenizer("phi", 1024)
    one, two = families.for_architecture("Phi3ForCausalLM"), families.for_architecture("LlamaForCausalLM")
    return Model(phi, tokenizer, one, ORIGIN), Model(llama, tokenizer, two, ORIGIN)


def unfused(module: Any) -> dict[str, torch.Tensor]:
    heads, shared, size = (
        module.config.num_attention_heads,
        module.config.num_key_value_heads,
        module.model.layers[0].self_attn.head_dim,
    )
    lengths = {"qkv_proj": [heads * size, shared * size, shared * size], "gate_up_proj": 2}
    state = {}
    for name, weight in module.state_dict().items():
        fused = name.split(".")[-2]
        if fused not in FUSED:
            state[name] = weight
            continue
        cuts = lengths[fused]
        parts = weight.split(cuts) if isinstance(cuts, list) else weight.chunk(cuts)
        for part, single in zip(parts, FUSED[fused], strict=True):
            state[name.replace(fused, single)] = part
    return state


@pytest.mark.parametrize("structure", ["layer", "head", "neuron", "width", "vocabulary"])
def test_every_criterion_scores_the_same_parts(twins: tuple[Model, Model], structure: str) -> None:
    tried = 0
    for name in criteria.names_for(structure):
        if name == "loss":
            continue
        criterion, found = criteria.find(name), []
        for model in twins:
            evidence = Evidence(WINDOWS)
            figures = gathered(model, structure, criterion.needs(structure), (), evidence)
            found.append(criterion.score(model, structure, replace(evidence, statistics=figures)))
        assert float((found[0] - found[1]).norm() / found[1].norm()) < 5e-3, name  # the passes may run in bfloat16
        tried += 1
    assert tried >= 3


@pytest.mark.parametrize(
    "operation",
    [
        Prune("head", keep=2),
        Prune("head", keep=2, whole_groups=True),
        Prune("neuron", keep=64),
        Prune("width", keep=32),
        Prune("layer", keep=1),
        Prune("neuron", keep=64, uneven=True),
        Prune("head", keep=2, allocation=(4, 0)),
        Prune("weight", "wanda", sparsity=0.5),
        Prune("synapse", "sparsegpt"),
    ],
    ids=lambda operation: f"{operation.structure}-{operation.criterion}",
)
def test_a_cut_takes_the_same_rows_and_repairs_them_alike(twins: tuple[Model, Model], operation: Prune) -> None:
    phi, llama = (operation.apply(model, WINDOWS) for model in twins)
    with torch.no_grad():
        one, two = (model.module(WINDOWS, use_cache=False).logits for model in (phi, llama))
    torch.testing.assert_close(one, two, atol=2e-3, rtol=1e-3)
    assert (
        phi.parameter_count() == llama.parameter_count() < twins[0].parameter_count()
        or operation.sparsity
        or (operation.structure == "synapse")
    )
    for one_block, two_block in zip(phi.anatomy.blocks, llama.anatomy.blocks, strict=True):
        for role, projection in one_block.projections.items():
            rows = slice(*projection.rows) if projection.rows else slice(None)
            torch.testing.assert_close(
                phi.weight(projection.weight)[rows],
                llama.weight(two_block.projections[role].weight),
                atol=2e-3,
                rtol=1e-3,
            )


def test_an_uneven_cut_reloads(twins: tuple[Model, Model], tmp_path: Path) -> None:
    pruned = Prune("neuron", keep=64, allocation=(32, 96)).apply(twins[0], WINDOWS)
    safetensors.write(pruned, tmp_path / "out", dtype="float32")
    again = read_folder(tmp_path / "out", torch.float32)
    assert [block.projections["up"].rows for block in again.anatomy.blocks] == [(32, 64), (96, 192)]
    with torch.no_grad():
        assert torch.equal(again.module(WINDOWS).logits, pruned.module(WINDOWS).logits)


def test_quantization_and_its_predictions_are_the_same(twins: tuple[Model, Model]) -> None:
    small = [Quantize(default="q4_0").apply(model, WINDOWS) for model in twins]
    expected = unfused(small[0].module)
    for name, weight in small[1].module.state_dict().items():
        assert float((weight - expected[name]).norm() / weight.norm()) < 0.02, name  # ties in rounding may differ
    probed = [probe(model, WINDOWS) for model in twins]
    path = "model.layers.1.{}.weight"
    for fused, single in (("self_attn.qkv_proj", "self_attn.{}"), ("mlp.gate_up_proj", "mlp.{}")):
        names = [path.format(single.format(part)) for part in FUSED[fused.split(".")[1]]]
        joined = torch.cat([probed[1].outputs[name] for name in names])
        torch.testing.assert_close(probed[0].outputs[path.format(fused)], joined, atol=1e-6, rtol=1e-2)


def test_the_planner_counts_the_rows_of_fused_matrices(twins: tuple[Model, Model]) -> None:
    shape, sizes = Shape(1, 32, 1024), []
    for model in twins:
        table = choices(model, probe(model, WINDOWS), allowed=["q8_0"])
        sizes.append(sum(front[0].bytes for front in table_of(shape, model, table).values()))
    assert sizes[0] == sizes[1]
    assert list(_shapes(twins[0])) == list(_shapes(twins[1]))


def long_phi(published_tokenizer: Any, **changes: Any) -> Model:
    torch.manual_seed(0)
    config = Phi3Config(**SIZES | changes, rope_parameters=LONG_ROPE, original_max_position_embeddings=32)
    family = families.for_architecture("Phi3ForCausalLM")
    return Model(Phi3ForCausalLM(config).eval(), published_tokenizer("phi", 1024), family, ORIGIN)


@pytest.mark.parametrize(
    "operation", [Prune("head", keep=2), Prune("head", keep=2, whole_groups=True), Prune("width", keep=32)]
)
def test_a_long_rope_is_kept_when_heads_or_width_go(operation: Prune, published_tokenizer: Any, tmp_path: Path) -> None:
    model = long_phi(published_tokenizer, max_position_embeddings=1024)
    cut = operation.apply(model, WINDOWS)
    rope = cut.config.rope_parameters
    assert rope["rope_type"] == "longrope" and len(rope["short_factor"]) == len(rope["long_factor"]) == 8
    assert cut.anatomy.blocks[0].head_size == 16 and "LlamaForCausalLM" in cut.lineage.steps[-1].note
    long = torch.randint(3, 1000, (1, 48), generator=torch.Generator().manual_seed(2))
    safetensors.write(cut, tmp_path / "out", dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    gguf.write(cut, tmp_path / "out.gguf", float_format="float32")
    again = read_gguf(tmp_path / "out.gguf", torch.float32)
    assert again.config.rope_parameters["rope_type"] == "longrope"
    for factors in ("short_factor", "long_factor"):
        assert again.config.rope_parameters[factors] == pytest.approx(rope[factors])
    with torch.no_grad():
        for ids in (WINDOWS[:1], long):  # shorter and longer than the original context
            expected = cut.module(ids, use_cache=False).logits
            for other in (plain, again.module):
                torch.testing.assert_close(other(ids, use_cache=False).logits, expected, rtol=0, atol=1e-5)
        expected = cut.module(long, use_cache=False).logits[0]
    with PromptScorer(tmp_path / "out.gguf", threads=1, context=512) as scorer:  # all contexts are long to it
        found = torch.from_numpy(scorer.logits(long[0].tolist()).copy())
    assert float(torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.9999


def test_a_long_phi_written_as_a_llama_computes_the_same(published_tokenizer: Any) -> None:
    model = long_phi(published_tokenizer)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    llama = model.family.for_cutting(model, "head")
    assert llama.family.architecture == "LlamaForCausalLM" and llama.parameter_count() == model.parameter_count()
    long = torch.randint(3, 1000, (1, 48), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for ids in (WINDOWS, long):
            one, two = (each.module(ids, use_cache=False).logits for each in (model, llama))
            torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert model.family.for_cutting(model, "neuron") is model
    (damage,) = compare_criteria(Prune("head", keep=2), ["l2"], model, WINDOWS, WINDOWS[:2])
    assert damage.measured_kl > 0 and damage.predicted_kl > 0
    kept = Prune("neuron", keep=64).apply(model, WINDOWS)
    assert kept.config.rope_parameters["rope_type"] == "longrope" and kept.config.model_type == "phi3"


def test_a_long_rope_that_no_llama_has_stays_with_heads_that_make_up_the_width(published_tokenizer: Any) -> None:
    model = long_phi(published_tokenizer, sliding_window=48)
    for operation in (Prune("head", keep=2), Prune("width", keep=32)):
        with pytest.raises(Unsupported, match="heads that together are as wide as the model"):
            operation.apply(model, WINDOWS)


def test_a_gguf_promises_no_more_than_the_window(published_tokenizer: Any, tmp_path: Path) -> None:
    family = families.for_architecture("Phi3ForCausalLM")
    config = Phi3Config(**SIZES, sliding_window=48, rope_parameters=LONG_ROPE, original_max_position_embeddings=32)
    model = Model(Phi3ForCausalLM(config).eval(), published_tokenizer("phi", 1024), family, ORIGIN)
    gguf.write(model, tmp_path / "x.gguf")
    metadata = read(tmp_path / "x.gguf").metadata
    assert metadata["phi3.context_length"] == 48
    assert metadata["phi3.rope.scaling.attn_factor"] == pytest.approx((1 + 2 / 5) ** 0.5)  # ln 4 / ln 32
    assert metadata["general.name"] == "Phi-3 tiny"
    config.rope_parameters["attention_factor"] = 1.25
    assert family.gguf_metadata(config)["phi3.rope.scaling.attn_factor"] == 1.25


def test_tokens_take_in_the_space_after_them(published_tokenizer: Any) -> None:
    original = published_tokenizer("phi", 1024)
    text = "<|user|>\n  Hi<s> there</s>  <|end|>\n\nyes<|endoftext|> no"
    metadata = to_gguf(original, 1024, "Phi-3.5-mini")
    again = from_gguf(metadata)
    assert metadata["general.name"] == "Phi-3.5-mini"
    assert again(text)["input_ids"] == original(text)["input_ids"]
    unnamed = from_gguf(metadata | {"general.name": "mini"})
    assert unnamed(text)["input_ids"] != original(text)["input_ids"]
    assert to_gguf(published_tokenizer("mistral", 512), 512, "a-phi-3-like")["general.name"] == "a-phi 3-like"
