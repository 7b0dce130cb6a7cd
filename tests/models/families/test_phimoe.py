"""Experts: how they lie in memory and in files, who reads what, how they go, merge and are rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PhimoeConfig, PhimoeForCausalLM

from smidgen import formats
from smidgen.errors import InvalidInput, RecipeError, Unsupported
from smidgen.export import gguf, safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models import families
from smidgen.models.centring import centred
from smidgen.models.experts import take_apart
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.load import read_folder
from smidgen.models.model import Model, PackedTensor
from smidgen.recipe import snapshot
from smidgen.shrink.precision import autocast
from smidgen.shrink.prune import criteria
from smidgen.shrink.prune.comparison import compare_criteria
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.structures.expert import Expert, alignment
from smidgen.shrink.quantize.allocate import allocate, choices
from smidgen.shrink.quantize.moments import second_moments
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.quantize.sensitivity import probe
from smidgen.shrink.quantize.solvers.gptq import Gptq
from smidgen.shrink.statistics import collect

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "num_local_experts": 5,
    "vocab_size": 1024,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.15,
    "attention_bias": True,
    "lm_head_bias": True,
}
WINDOWS = torch.randint(3, 1000, (4, 32), generator=torch.Generator().manual_seed(1))
FAMILY = families.for_architecture("PhimoeForCausalLM")


@pytest.fixture(scope="module")
def build(published_tokenizer: Any) -> Any:
    def built(**changes: Any) -> Model:
        torch.manual_seed(0)
        config = PhimoeConfig(**(SIZES | changes), architectures=["PhimoeForCausalLM"])
        module = PhimoeForCausalLM(config).eval()
        for name, parameter in module.named_parameters():
            if name.endswith(("norm.weight", "bias")):
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
        origin = Origin(name="tiny", sha256="", bytes=0, parameters=0)
        tokenizer = published_tokenizer("phi", 1024)
        return Model(take_apart(module, FAMILY.anatomy(config)), tokenizer, FAMILY, Lineage(origin))

    return built


@torch.no_grad()
def logits_of(model: Model, ids: torch.Tensor = WINDOWS) -> torch.Tensor:
    return model.module(ids, use_cache=False).logits


def test_experts_lie_in_files_as_published(build: Any, tmp_path: Path) -> None:
    model = build()
    safetensors.write(model, tmp_path / "out", dtype="float32")
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert names["model.layers.1.block_sparse_moe.experts.4.w3.weight"].shape == (96, 64)
    assert torch.equal(
        names["model.layers.1.block_sparse_moe.experts.4.w2.weight"],
        model.weight("model.layers.1.mlp.experts.4.down_proj.weight"),
    )
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(WINDOWS).logits, logits_of(model), atol=1e-4, rtol=1e-4)
    snapshot.save(Quantize(default="q8_0", solver="nearest").apply(model, WINDOWS), tmp_path / "kept")
    again = snapshot.load(tmp_path / "kept", torch.float32)
    assert set(again.packed) == set(model.anatomy.matrices())


def test_an_expert_reads_the_tokens_routed_to_it(build: Any) -> None:
    model = build()
    seen: dict[str, list[torch.Tensor]] = {}
    for path in ("model.layers.0.mlp.router", "model.layers.0.post_attention_layernorm"):
        model.module.get_submodule(path).register_forward_hook(
            lambda _, inputs, output, path=path: seen.setdefault(path, []).append(output)
        )
    figures = collect(model, WINDOWS, hessians=True)
    chosen = torch.cat([output[2] for output in seen["model.layers.0.mlp.router"]])
    inputs = torch.cat([output.flatten(0, 1) for output in seen["model.layers.0.post_attention_layernorm"]]).float()
    for number in range(5):
        site = f"model.layers.0.experts.{number}.mlp_input"
        own = inputs[(chosen == number).any(1)]
        assert float(figures.reads[site]) == len(own)
        torch.testing.assert_close(figures.hessian[site], own.T @ own / len(own), atol=1e-2, rtol=1e-2)
        torch.testing.assert_close(figures.mean[site], own.mean(0), atol=1e-3, rtol=1e-2)
    assert float(figures.reads["model.layers.0.mlp_input"]) == WINDOWS.numel()
    assert sum(float(figures.reads[f"model.layers.0.experts.{number}.mlp_input"]) for number in range(5)) == 256


def test_the_least_used_experts_go_and_their_tokens_go_elsewhere(build: Any, tmp_path: Path) -> None:
    model = build(router_jitter_noise=0.0)
    figures = collect(model, WINDOWS)
    pruned = Prune("expert", keep=3).apply(model, WINDOWS)
    kept = []
    for layer in range(2):
        use = torch.stack([figures.reads[f"model.layers.{layer}.experts.{number}.mlp_input"] for number in range(5)])
        kept.append(use.topk(3).indices.sort().values)
    muted = model.clone()
    for layer, stays in enumerate(kept):
        router = muted.module.model.layers[layer].mlp.router
        gone = [number for number in range(5) if number not in stays.tolist()]
        router.register_forward_hook(_without(router, gone))
    torch.testing.assert_close(logits_of(pruned), logits_of(muted), atol=1e-4, rtol=1e-4)
    assert pruned.config.num_local_experts == 3 and pruned.parameter_count() < model.parameter_count()
    safetensors.write(pruned, tmp_path / "out", dtype="float32")
    torch.testing.assert_close(
        logits_of(read_folder(tmp_path / "out", torch.float32)), logits_of(pruned), atol=1e-4, rtol=1e-4
    )
    gguf.write(pruned, tmp_path / "x.gguf")
    with PromptScorer(tmp_path / "x.gguf", threads=1, context=32) as scorer:
        found = torch.from_numpy(numpy.array(scorer.logits(WINDOWS[0].tolist())))
    assert float(torch.cosine_similarity(found, logits_of(pruned)[0], dim=-1).median()) > 0.999


def _without(router: Any, gone: list[int]) -> Any:
    """Route as though some experts were not there."""
    from transformers.models.phimoe.modeling_phimoe import sparsemixer

    def after(_: Any, inputs: Any, output: Any) -> Any:
        scores = output[0].clone()
        scores[:, gone] = -1e9
        return scores, *sparsemixer(scores, router.router_jitter_noise, False)

    return after


def test_merging_averages_by_use_with_neurons_aligned(build: Any) -> None:
    model = build()
    # Expert 4 is expert 0 with its neurons in another order, and its router's row nearly the same.
    order = torch.randperm(96, generator=torch.Generator().manual_seed(2))
    for block in model.anatomy.blocks:
        first, last = block.mlps[0].projections, block.mlps[4].projections
        for role in ("gate", "up"):
            model.weight(last[role].weight).data.copy_(model.weight(first[role].weight)[order])
        model.weight(last["down"].weight).data.copy_(model.weight(first["down"].weight)[:, order])
        rows = model.weight(f"{block.router}.weight")
        rows.data[4] = rows.data[0] * 1.01
    kept = [torch.tensor([0, 1, 2, 3])] * 2
    figures = collect(model, WINDOWS)
    structure = Expert(merge=True)
    cut = structure.remove(model, kept)
    merged = structure.adjusted(model, cut, kept, figures)
    for name, weight in cut.module.state_dict().items():
        torch.testing.assert_close(merged.module.state_dict()[name], weight, atol=1e-6, rtol=1e-5)
    model.weight("model.layers.0.mlp.experts.4.down_proj.weight").data.mul_(3)
    merged = structure.adjusted(model, cut, kept, figures)
    reads = [float(figures.reads[f"model.layers.0.experts.{number}.mlp_input"]) for number in (0, 4)]
    share = reads[1] / sum(reads)
    name = "model.layers.0.mlp.experts.0.down_proj.weight"
    torch.testing.assert_close(merged.weight(name), cut.weight(name) * (1 - share + 3 * share), atol=1e-5, rtol=1e-4)
    assert Prune("expert", keep=4, merge=True).apply(model, WINDOWS).config.num_local_experts == 4


def test_neurons_are_aligned_each_once() -> None:
    one = torch.randn(40, 8, generator=torch.Generator().manual_seed(3))
    found = alignment(one, torch.randn(40, 8, generator=torch.Generator().manual_seed(4)))
    assert sorted(found.tolist()) == list(range(40))
    assert alignment(torch.zeros(3, 2), torch.zeros(3, 2)).sort().values.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("structure", "keep"), [("expert", 3), ("neuron", 64), ("layer", 1)])
def test_what_a_cut_costs_is_predicted_and_measured(build: Any, structure: str, keep: int) -> None:
    names = criteria.names_for(structure)
    found = compare_criteria(Prune(structure, keep=keep), names, build(), WINDOWS, WINDOWS)
    assert len(found) == len(names) >= 4
    assert all(row.measured_kl > 0 and row.predicted_kl > 0 for row in found)


def test_cuts_that_cannot_be_are_refused(build: Any) -> None:
    model = build()
    for operation, message in (
        (Prune("expert", keep=1), "1 of 5 experts per block cannot be kept"),
        (Prune("expert", keep=3, uneven=True), "same count of experts"),
        (Prune("neuron", keep=64, uneven=True), "all of one width"),
        (Prune("head", keep=2, uneven=True), "cannot differ"),
    ):
        with pytest.raises(InvalidInput, match=message):
            operation.apply(model, WINDOWS)


def test_an_expert_that_saw_few_tokens_goes_by_what_all_of_its_block_read(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(num_local_experts=16)
    notes: list[str] = []
    solved: dict[int, torch.Tensor] = {}
    solve, windows = Gptq.solve, WINDOWS[:1, :8]

    def watched(self: Gptq, weight: torch.Tensor, hessian: torch.Tensor, number_format: Any) -> torch.Tensor:
        solved[len(solved)] = hessian
        return solve(self, weight, hessian, number_format)

    monkeypatch.setattr(Gptq, "solve", watched)
    first = model.anatomy.blocks[0]
    named = {name: "q4_0" for mlp in first.mlps for name in (part.weight for part in mlp.projections.values())}
    small = Quantize(formats=named).apply(model, windows, progress=lambda event: notes.append(event.note or ""))
    assert any("experts saw fewer tokens of the calibration text than they have inputs" in note for note in notes)
    assert "experts saw fewer tokens" in str(small.lineage.steps[-1].note)

    read, same = dict[str, torch.Tensor](), centred(model)
    paths = [str(first.router), *(mlp.projections["gate"].path for mlp in first.mlps)]
    hooks = [
        same.module.get_submodule(path).register_forward_pre_hook(
            lambda _, given, path=path: read.update({path: given[0]})
        )
        for path in paths
    ]
    with torch.no_grad(), autocast():
        same.module.base_model(windows, use_cache=False)
    for hook in hooks:
        hook.remove()
    block, seen = second_moments(read.pop(paths[0])), list(read.values())
    assert len(solved) == 2 * 16 and 0 < len(seen) < 16 and all(len(inputs) < 64 for inputs in seen)
    for place, inputs in enumerate(seen):  # in the order of computation: what an expert reads, what it makes of it
        share, hidden = len(inputs) / 64, solved[2 * place + 1]
        expected = second_moments(inputs) * share + block * (1 - share)
        assert torch.allclose(solved[2 * place], expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(hidden, hidden.T) and not torch.equal(hidden, hidden.diagonal().diag())
    for place in range(len(seen), 16):
        assert torch.equal(solved[2 * place], block) and torch.equal(solved[2 * place + 1], torch.eye(96))


def test_experts_of_a_block_share_a_format(build: Any) -> None:
    model = build()
    table = choices(model, probe(model, WINDOWS), allowed=["q8_0", "q4_0", "q5_1"])
    together = model.anatomy.stored_together()
    assert len(together) == 6 and {len(names) for names in together} == {5}
    budget = sum(front[0].bytes for front in table.values()) + 30000
    found = allocate(table, budget, together=together)
    assert found is not None and sum(choice.bytes for choice in found.values()) <= budget
    for names in together:
        assert len({found[name].format for name in names}) == 1
    assert len({choice.format for choice in found.values()}) > 1
    with pytest.raises(RecipeError, match="stored as one"):
        Quantize({together[0][0]: "q8_0"}, default="q4_0").apply(model, WINDOWS)


def test_the_mean_of_the_stream_is_noticed_by_nothing(build: Any) -> None:
    model = build()
    torch.testing.assert_close(logits_of(centred(model)), logits_of(model), atol=1e-4, rtol=1e-4)
    hidden: list[torch.Tensor] = []
    changed = centred(model)
    changed.module.model.norm.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    logits_of(changed)
    assert float(hidden[0].mean(-1).abs().max()) < 1e-5


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q4_k", "q6_k", "q8_0", "iq4_nl", "float16"])
def test_packed_weights_double_exactly(name: str) -> None:
    number_format = formats.find(name)
    data = number_format.quantize(torch.randn(4, 256, generator=torch.Generator().manual_seed(5)))
    doubled = gguf.scaled(PackedTensor(name, data, (4, 256)), 2.0)
    assert torch.equal(number_format.unpack(doubled.data), 2 * number_format.unpack(data))


def test_llama_cpp_adds_the_experts_up_until_others_come_near(build: Any, tmp_path: Path) -> None:
    """With the published jitter the sparse mixer weighs experts that come within 2% of the best; llama.cpp does not."""
    model = build(num_local_experts=8, router_jitter_noise=0.01)
    near = torch.zeros(128, dtype=torch.bool)

    def after(_: Any, inputs: Any, output: Any) -> None:
        near.logical_or_((output[1] < 0.999).any(1))

    for layer in model.module.model.layers:
        layer.mlp.router.register_forward_hook(after)
    ids = torch.randint(3, 1000, (1, 128), generator=torch.Generator().manual_seed(6))
    expected = logits_of(model, ids)[0]
    gguf.write(model, tmp_path / "x.gguf")
    with PromptScorer(tmp_path / "x.gguf", threads=1, context=128) as scorer:
        found = torch.from_numpy(numpy.array(scorer.logits(ids[0].tolist())))
    likeness = torch.cosine_similarity(expected, found, dim=-1)
    assert 0 < float(near.float().mean()) < 0.25
    assert float(likeness.median()) > 0.999
    first = int(near.nonzero()[0])  # what comes before it is not touched by it
    assert first > 0 and float(likeness[:first].min()) > 0.999


def test_what_llama_cpp_would_compute_otherwise_is_refused(build: Any) -> None:
    model = build()
    model.config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "short_mscale": 1.1,
        "long_mscale": 1.2,
        "original_max_position_embeddings": 128,
    }
    with pytest.raises(Unsupported, match="by one factor"):
        FAMILY.gguf_metadata(model.config)
    tied = build(tie_word_embeddings=True)
    with pytest.raises(Unsupported, match="a head of its own"):
        FAMILY.gguf_metadata(tied.config)
