"""Heads and hidden channels: what is removed is what no longer contributes, and repair brings outputs nearer."""

import pytest
import torch

from smidgen import divergence
from smidgen.shrink.prune.criteria import Evidence
from smidgen.shrink.prune.criteria.activation import Activation
from smidgen.shrink.prune.criteria.loss import Loss
from smidgen.shrink.prune.criteria.wanda import Wanda
from smidgen.shrink.prune.cutting import gathered
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.structures.head import Head, channels
from smidgen.shrink.prune.structures.width import Width


@pytest.fixture(autouse=True)
def plain_arithmetic(monkeypatch):
    from smidgen.shrink import precision

    monkeypatch.setattr(precision, "_fast_bfloat16", lambda: False)


def logits(model, tokens):
    with torch.no_grad():
        return model.module(input_ids=tokens, use_cache=False).logits


def damage(model, result, windows):
    return float(divergence.kl(logits(model, windows).flatten(0, 1), logits(result, windows).flatten(0, 1)).mean())


@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("llama", {"attention_bias": True}), ("qwen2", {})])
@pytest.mark.parametrize("kept", [(0, 3), (0, 1), (2, 3)])
def test_removed_heads_are_those_whose_output_is_not_read(tiny_model, windows, family, changes, kept):
    model = tiny_model(family, **changes)
    result = Head().remove(model, torch.tensor([kept]).repeat(3, 1))
    silent = model.clone()
    with torch.no_grad():
        for block in model.anatomy.blocks:
            gone = torch.ones(64, dtype=torch.bool).index_fill_(0, channels(torch.tensor(kept), 16), False)
            silent.weight(block.projections["output"].weight)[:, gone] = 0
    torch.testing.assert_close(logits(result, windows), logits(silent, windows), rtol=0, atol=1e-4)
    assert (logits(result, windows) - logits(model, windows)).abs().max() > 0.1
    assert result.config.num_attention_heads == 2 and result.config.num_key_value_heads == (2 if kept == (0, 3) else 1)
    assert result.lineage.kept_heads == (kept,) * 3


def test_heads_go_inside_their_groups_or_in_whole_ones(tiny_model):
    model, scores = tiny_model(), torch.tensor([[4.0, 3.0, 2.0, 1.0]]).repeat(3, 1)
    assert Head().select(model, scores, 2).tolist() == [[0, 2]] * 3
    assert Head(whole_groups=True).select(model, scores, 2).tolist() == [[0, 1]] * 3
    assert Head(whole_groups=True).parameters_saved(model, 2) > Head().parameters_saved(model, 2)


def test_a_head_scores_by_what_it_gives_and_by_what_is_missed_without_it(tiny_model, windows):
    model = tiny_model()
    with torch.no_grad():
        model.weight("model.layers.1.self_attn.v_proj.weight")[16:] *= 1e-3  # heads 2 and 3 of the second block
    evidence = Evidence(windows, gathered(model, "head", Activation().needs("head"), (), Evidence(windows)))
    for criterion in (Activation(), Wanda(), Loss(windows=2)):
        scores = criterion.score(model, "head", evidence)
        assert scores.shape == (3, 4) and set(scores[1].argsort()[:2].tolist()) == {2, 3}
    loss = Loss(windows=6).score(model, "head", evidence)
    silent = model.clone()
    with torch.no_grad():
        silent.weight("model.layers.0.self_attn.o_proj.weight")[:, :16] = 0
    assert float(loss[0, 0]) == pytest.approx(damage(model, silent, windows), rel=1e-3)


def test_the_activation_of_a_head_is_the_norm_of_its_output(tiny_model, windows):
    model, read = tiny_model(), []
    layer = model.module.model.layers[2].self_attn.o_proj
    handle = layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    logits(model, windows)
    handle.remove()
    expected = read[0].reshape(6, 32, 4, 16).norm(dim=-1).mean(1).norm(dim=0)
    evidence = Evidence(windows, gathered(model, "head", Activation().needs("head"), (), Evidence(windows)))
    torch.testing.assert_close(Activation().score(model, "head", evidence)[2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_removed_channels_are_those_that_carry_nothing(tiny_model, windows, family):
    """Where channels are zero all along, removing them changes only by how much the norms divide."""
    model = tiny_model(family)
    kept = torch.arange(0, 64, 2)
    gone = torch.arange(1, 64, 2)
    with torch.no_grad():
        model.weight("model.embed_tokens.weight")[:, gone] = 0
        for block in model.anatomy.blocks:
            for role in ("output", "down"):
                model.weight(block.projections[role].weight)[gone] = 0
    result = Width().remove(model, kept)
    # The norm divided by the root of the mean over 64 channels, half of them zero, and now by that over 32.
    statistics = gathered(model, "width", None, Width.readers, Evidence(windows))
    scaled = Width().adjusted(model, result, kept, statistics)
    torch.testing.assert_close(logits(scaled, windows), logits(model, windows), rtol=0, atol=2e-3)
    assert (logits(result, windows) - logits(model, windows)).abs().max() > 0.1
    assert result.config.hidden_size == 32 and result.config.head_dim == 16


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "step", [Prune("head", keep=2), Prune("head", keep=2, whole_groups=True), Prune("width", keep=32)]
)
def test_repair_does_less_damage(tiny_model, windows, tied, step):
    from dataclasses import replace

    model = tiny_model(tie_word_embeddings=tied)
    repaired, sliced = (replace(step, repair=repair).apply(model, windows) for repair in (True, False))
    assert damage(model, repaired, windows) < damage(model, sliced, windows)


def test_rounds_are_scored_anew_and_lead_to_the_same_size(tiny_model, windows, monkeypatch):
    from smidgen.shrink.prune.criteria.taylor import Taylor

    model, asked = tiny_model(), []
    original = Taylor.score
    monkeypatch.setattr(
        Taylor, "score", lambda self, model, *rest: asked.append(model.anatomy) or original(self, model, *rest)
    )
    result = Prune("neuron", "taylor", keep=32, rounds=3).apply(model, windows)
    assert [anatomy.blocks[0].neurons for anatomy in asked] == [128, 96, 64]
    assert result.config.intermediate_size == 32 and len(result.lineage.steps) == 1
    layers = Prune("layer", "taylor", keep=2, rounds=2).apply(tiny_model(num_hidden_layers=4), windows)
    assert tuple(layers.lineage.steps[0].parameters["chosen"]) == layers.lineage.kept_layers
    again = Prune(**layers.lineage.steps[0].parameters).apply(tiny_model(num_hidden_layers=4), windows)
    assert torch.equal(logits(again, windows), logits(layers, windows))


def test_counts_are_multiples_of_what_is_asked(tiny_model, windows):
    wide = tiny_model(hidden_size=320, intermediate_size=320)
    assert Prune("width", keep=300).apply(wide, windows).config.hidden_size == 256
    assert Prune("width", keep=300, multiple=32).apply(wide, windows).config.hidden_size == 288
    assert Prune("neuron", keep=200, multiple=64).apply(wide, windows).config.intermediate_size == 192


def test_the_gradient_of_statistics_is_that_of_the_loss(tiny_model, windows):
    from smidgen.shrink.statistics import collect

    model = tiny_model("qwen2")
    names = ["model.embed_tokens.weight", "model.layers.1.mlp.gate_proj.weight"]
    found = collect(model, windows, sites=(), gradients=names).gradient
    model.module(input_ids=windows, labels=windows).loss.backward()
    for name in names:
        torch.testing.assert_close(found[name], model.weight(name).grad, rtol=1e-3, atol=1e-6)


def test_preactivations_are_what_goes_into_the_activation_function(tiny_model, windows):
    from smidgen.shrink.statistics import collect

    model, seen = tiny_model(), []
    handle = model.module.model.layers[0].mlp.gate_proj.register_forward_hook(lambda _, i, output: seen.append(output))
    logits(model, windows)
    handle.remove()
    found = collect(model, windows, preactivations=True)
    expected = seen[0].clamp_min(0).mean((0, 1))
    torch.testing.assert_close(found.relu["model.layers.0.mlp_hidden"], expected, rtol=1e-4, atol=1e-6)
    assert set(found.relu) == {f"model.layers.{index}.mlp_hidden" for index in range(3)}
    assert not collect(model, windows).relu
