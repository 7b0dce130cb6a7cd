"""Criteria are compared on one cut: what is predicted ranks as what is measured does."""

import pytest
import torch

from smidgen.shrink.prune import comparison, criteria
from smidgen.shrink.prune.comparison import compare_criteria, mean_divergence, predicted_damage, same_shape
from smidgen.shrink.prune.prune import Prune

CUTS = {
    "layer": Prune("layer", keep=2),
    "head": Prune("head", keep=2),
    "neuron": Prune("neuron", keep=64),
    "width": Prune("width", keep=32),
    "vocabulary": Prune("vocabulary", keep=512),
    "weight": Prune("weight", sparsity=0.3),
    "synapse": Prune("synapse"),
}


@pytest.fixture(autouse=True)
def plain_arithmetic(monkeypatch):
    from smidgen.shrink import precision

    monkeypatch.setattr(precision, "_fast_bfloat16", lambda: False)


@pytest.mark.parametrize("structure", CUTS)
def test_every_criterion_that_fits_is_measured_at_the_same_size(tiny_model, windows, structure):
    model = tiny_model(vocab_size=1024)
    names = comparison.fitting(structure, "all")
    found = compare_criteria(CUTS[structure], names, model, windows, windows[:2])
    assert sorted(each.criterion for each in found) == sorted(criteria.names_for(structure))
    assert [each.measured_kl for each in found] == sorted(each.measured_kl for each in found)
    sizes = {each.parameters for each in found}
    assert max(sizes) - min(sizes) < 0.001 * max(sizes) and max(sizes) < model.parameter_count()
    assert all(each.predicted_kl >= 0 and each.seconds >= 0 for each in found)
    if structure != "vocabulary":
        assert all(each.predicted_kl > 0 and each.measured_kl > 0 for each in found)


def test_a_small_change_costs_what_is_predicted(tiny_model):
    model, windows = tiny_model(), torch.randint(3, 400, (32, 64), generator=torch.Generator().manual_seed(5))
    name = "model.layers.1.mlp.down_proj.weight"
    generator = torch.Generator().manual_seed(6)
    weight = model.weight(name).detach()
    changed = weight + 0.02 * weight.std() * torch.randn(weight.shape, generator=generator)
    other = model.clone()
    with torch.no_grad():
        other.weight(name).copy_(changed)
    measured = mean_divergence(model, other, windows)
    assert predicted_damage(model, {name: changed}, windows) == pytest.approx(measured, rel=0.6)
    twice = weight + 2 * (changed - weight)
    ratio = predicted_damage(model, {name: twice}, windows) / predicted_damage(model, {name: changed}, windows)
    assert ratio == pytest.approx(4, rel=1e-3)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.module.parameters())


@pytest.mark.parametrize(
    "step",
    [
        CUTS["head"],
        CUTS["neuron"],
        CUTS["layer"],
        CUTS["weight"],
        Prune("head", whole_groups=True, allocation=(2, 0, 4)),
        Prune("neuron", allocation=(64, 128, 0)),
    ],
    ids=str,
)
def test_weights_of_the_same_shape_compute_the_same(tiny_model, windows, step):
    model = tiny_model()
    result, kept = step.cut(model, windows)
    wide = model.clone()
    with torch.no_grad():
        for name, value in same_shape(model, result, step.built_structure(), kept).items():
            wide.weight(name).copy_(value)
    assert mean_divergence(result, wide, windows) < 1e-6 < mean_divergence(model, wide, windows)


def test_a_cut_of_tokens_costs_what_spelling_costs(tiny_model, windows):
    model = tiny_model(vocab_size=1024)
    (used,) = compare_criteria(CUTS["vocabulary"], ["use"], model, windows, windows)
    assert used.predicted_kl == pytest.approx(0, abs=0.2)
    assert comparison.fitting("vocabulary", None) == ("use",)


def test_the_text_is_read_once_for_all_criteria(tiny_model, windows, monkeypatch):
    from smidgen.shrink import statistics

    passes, collect = [], statistics.collect
    monkeypatch.setattr(statistics, "collect", lambda *rest, **named: passes.append(named) or collect(*rest, **named))
    names = comparison.fitting("neuron", "all")
    together = compare_criteria(CUTS["neuron"], names, tiny_model(), windows, windows[:2])
    assert len(passes) == 1 and passes[0]["hessians"] and passes[0]["preactivations"] and passes[0]["gradients"]
    (alone,) = compare_criteria(CUTS["neuron"], ["relu"], tiny_model(), windows, windows[:2])
    same = next(each for each in together if each.criterion == "relu")
    assert same.measured_kl == pytest.approx(alone.measured_kl, rel=1e-3)
