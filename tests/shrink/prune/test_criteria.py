import pytest
import torch

from smidgen import divergence
from smidgen.errors import InvalidInput
from smidgen.shrink.prune.criteria import Evidence, _chain
from smidgen.shrink.prune.criteria._chain import Chain, Judge
from smidgen.shrink.prune.criteria.activation import Activation
from smidgen.shrink.prune.criteria.l2 import L2
from smidgen.shrink.prune.criteria.loss import Loss, greedy_layers
from smidgen.shrink.prune.criteria.use import Use
from smidgen.shrink.prune.structures.layer import with_layers
from smidgen.shrink.statistics import collect


@pytest.fixture(autouse=True)
def plain_arithmetic(monkeypatch):
    """Compare figures of differently shaped models in float32."""
    from smidgen.shrink import precision

    monkeypatch.setattr(precision, "_fast_bfloat16", lambda: False)


def leave_out(model, windows, gone):
    """KL without some blocks by a second way: their hooks give back what went in."""

    def logits():
        with torch.no_grad():
            return model.module(input_ids=windows, use_cache=False).logits.flatten(0, 1)

    source = logits()
    layers = model.module.model.layers
    handles = [layers[index].register_forward_hook(lambda _, inputs, output: inputs[0]) for index in gone]
    result = logits()
    for handle in handles:
        handle.remove()
    return float(divergence.kl(source, result).mean())


def with_faint_layers(model, faint):
    """Shrink what some blocks add to the stream."""
    with torch.no_grad():
        for index, factor in faint.items():
            for role in ("output", "down"):
                model.weight(model.anatomy.blocks[index].projections[role].weight).mul_(factor)
    return model


def test_the_loss_of_a_layer_is_the_kl_without_it(tiny_model, windows):
    model = tiny_model(num_hidden_layers=4)
    evidence = Evidence(windows, collect(model, windows, sites=()))
    scores = Loss(windows=3).score(model, "layer", evidence)
    expected = [leave_out(model, windows[:3], [index]) for index in range(4)]
    assert scores.tolist() == pytest.approx(expected, rel=1e-3)
    assert len(set(expected)) == 4


def test_layers_go_one_at_a_time_by_true_damage(tiny_model, windows):
    model = tiny_model(num_hidden_layers=5)
    first = min(range(5), key=lambda index: leave_out(model, windows, [index]))
    rest = [index for index in range(5) if index != first]
    second = min(rest, key=lambda index: leave_out(model, windows, [first, index]))
    expected = tuple(index for index in rest if index != second)
    assert greedy_layers(model, windows, remove=2, candidates=5) == expected
    evidence = Evidence(windows, collect(model, windows, sites=()))
    assert Loss(windows=6).choose(model, "layer", 3, evidence).tolist() == list(expected)


def test_only_layers_of_low_influence_are_tried(tiny_model, windows):
    model = with_faint_layers(tiny_model(num_hidden_layers=8), {3: 1e-3})
    influence = torch.tensor([0.1, 0.2, 0.3, 9.0, 0.4, 0.5, 0.6, 0.7])
    assert 3 in greedy_layers(model, windows, remove=1, candidates=1, influence=influence)
    assert 3 not in greedy_layers(model, windows, remove=1, candidates=8, influence=influence)


def test_the_faintest_layer_has_the_lowest_score_by_every_criterion(tiny_model, windows):
    from smidgen.shrink.prune.criteria.block_influence import BlockInfluence

    model = with_faint_layers(tiny_model(num_hidden_layers=4), {2: 0.01})
    evidence = Evidence(windows, collect(model, windows, sites=()))
    for criterion in (BlockInfluence(), L2(), Loss()):
        assert int(criterion.score(model, "layer", evidence).argmin()) == 2


@pytest.mark.parametrize("remembered", [0, 1 << 30])
def test_hidden_states_give_the_divergence_of_the_logits(tiny_model, windows, monkeypatch, remembered):
    monkeypatch.setattr(_chain, "MOST_REMEMBERED", remembered)
    model = tiny_model()
    source, other = (Chain(each, windows).final for each in (model, tiny_model(seed=1)))
    with torch.no_grad():
        logits = model.module(input_ids=windows).logits.flatten(0, 1)
        expected = divergence.kl(logits, model.module.lm_head(other)).mean()
    judge = Judge(model, source)
    assert judge.divergence(other) == pytest.approx(float(expected))
    assert judge.divergence(source) == 0.0


@pytest.mark.parametrize("family", ["llama", "qwen2", "phimoe"])
def test_a_chain_begun_in_the_middle_ends_as_the_whole_one(tiny_model, windows, family):
    model = tiny_model(family, num_hidden_layers=4)
    chain = Chain(model, windows)
    for first in range(4):
        assert torch.equal(chain.again(first), chain.final)
        kept = [index for index in range(4) if index != first]
        torch.testing.assert_close(chain.without(first), Chain(with_layers(model, kept), windows).final)
    assert torch.equal(Chain(model, windows).final, chain.final), "the model is as it was"


def test_activation_reads_what_the_down_projection_reads(tiny_model, windows):
    model = tiny_model()
    sites = [f"model.layers.{index}.mlp_hidden" for index in range(3)]
    scores = Activation().score(model, "neuron", Evidence(windows, collect(model, windows, sites=sites)))
    silent = scores.argmin(dim=1)
    with torch.no_grad():
        model.module.model.layers[1].mlp.up_proj.weight[5] = 0
    again = Activation().score(model, "neuron", Evidence(windows, collect(model, windows, sites=sites)))
    assert again[1, 5] == 0 and again[1].argmin() == 5 and again[0].argmin() == silent[0]


@torch.no_grad()
def test_l2_adds_up_all_that_belongs_to_a_part(tiny_model, windows):
    model, evidence = tiny_model("qwen2", tie_word_embeddings=False), Evidence(windows)
    layers = L2().score(model, "layer", evidence)
    first = torch.cat([weight.flatten() for weight in model.module.model.layers[0].parameters()])
    assert float(layers[0]) == pytest.approx(float(first.norm()), rel=1e-5)
    mlp = model.module.model.layers[2].mlp
    row = torch.cat([mlp.gate_proj.weight[7], mlp.up_proj.weight[7], mlp.down_proj.weight[:, 7]])
    assert float(L2().score(model, "neuron", evidence)[2, 7]) == pytest.approx(float(row.norm()), rel=1e-5)
    token = torch.cat([model.module.model.embed_tokens.weight[9], model.module.lm_head.weight[9]])
    assert float(L2().score(model, "vocabulary", evidence)[9]) == pytest.approx(float(token.norm()), rel=1e-5)


def test_use_takes_the_given_counts_or_counts_the_windows(tiny_model, windows):
    model = tiny_model()
    given = torch.arange(400)
    assert torch.equal(Use().score(model, "vocabulary", Evidence(windows, token_use=given)), given.float())
    counted = Use().score(model, "vocabulary", Evidence(windows))
    assert counted.sum() == windows.numel() and counted[int(windows[0, 0])] >= 1
    for wrong in (torch.arange(399), -given):
        with pytest.raises(InvalidInput, match="400 counts"):
            Use().score(model, "vocabulary", Evidence(windows, token_use=wrong))
