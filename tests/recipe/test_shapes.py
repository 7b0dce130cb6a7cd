"""What a model could be cut down to, and that a shape predicts the file that is made of it."""

from __future__ import annotations

import pytest
import torch

from smidgen.errors import RecipeError
from smidgen.export import gguf
from smidgen.export.gguf import metadata_bytes
from smidgen.recipe.budget import Budget
from smidgen.recipe.shapes import Mix, Prober, Shape, best_mix, candidates, overhead_of, smallest_file, table_of
from smidgen.shrink.quantize.allocate import allocate, choices, smallest_bytes
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.quantize.sensitivity import probe


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(num_hidden_layers=4, initializer_range=0.08)


@pytest.fixture(scope="module")
def calibration():
    return torch.randint(3, 400, (6, 64), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def table(model, calibration):
    return choices(model, probe(model, calibration[:2]))


def cut_down(model, calibration, shape):
    for step in shape.steps(Shape.of(model.anatomy)):
        model = step.build().apply(model, calibration, token_use=torch.arange(model.anatomy.vocabulary_size))
    return model


def test_a_shape_s_steps_lead_to_it(model, calibration):
    whole = Shape.of(model.anatomy)
    assert whole == Shape(4, 128, 400) and whole.steps(whole) == [] and whole.describe(whole) == "the whole model"
    shape = Shape(3, 64, 400)
    assert Shape.of(cut_down(model, calibration, shape).anatomy) == shape
    assert shape.cuts(whole) == [("layer", 3), ("neuron", 64)]
    assert shape.describe(whole) == "3 of 4 layers, 64 of 128 neurons"


def test_candidates_hold_the_whole_and_go_down(model):
    for counts, whole in zip(candidates(model), (4, 128, 400, 0), strict=True):
        assert counts[0] == whole and counts == sorted(set(counts), reverse=True) and (counts[-1] > 0 or whole == 0)


@pytest.mark.parametrize("shape", [Shape(4, 128, 400), Shape(2, 128, 400), Shape(3, 64, 400)])
def test_the_scaled_table_holds_the_sizes_of_the_cut_model(model, calibration, table, shape):
    cut = cut_down(model, calibration, shape)
    scaled = table_of(shape, model, table)
    sizes = sorted(choice.bytes for front in scaled.values() for choice in front if choice.format == "q8_0")
    q8_0 = choices(cut, probe(cut, calibration[:1]), allowed=["q8_0"])
    assert sizes == sorted(choice.bytes for front in q8_0.values() for choice in front)


def test_what_is_allocated_is_what_the_file_weighs(model, calibration, table, tmp_path):
    budget = 140_000
    chosen = allocate(table, budget - metadata_bytes(model))
    assert chosen is not None
    made = Quantize({name: choice.format for name, choice in chosen.items()}, solver="nearest").apply(
        model, calibration
    )
    gguf.write(made, tmp_path / "made.gguf")
    predicted = sum(choice.bytes for choice in chosen.values()) + metadata_bytes(model)
    assert 0.95 * predicted < (tmp_path / "made.gguf").stat().st_size <= predicted <= budget


def test_cuts_are_measured_once_and_cost_more_the_more_goes(tiny_model, calibration):
    model = tiny_model(num_hidden_layers=4, initializer_range=0.08, vocab_size=1024)
    prober = Prober(model, calibration, torch.arange(1, 1025))
    whole = Shape.of(model.anatomy)
    damages = [prober.damage("layer", keep) for keep in (3, 2, 1)]
    assert damages == sorted(damages) and damages[0] > 0
    assert min(prober.damage("vocabulary", keep) for keep in (512, 768)) >= 0
    known = dict(prober.known)
    shape = Shape(2, 128, 768)
    assert prober.structural(shape, whole) == prober.damage("layer", 2) + prober.damage("vocabulary", 768)
    assert prober.known == known
    assert prober.structural(whole, whole) == 0 == prober.at_least(whole, whole)
    assert prober.at_least(shape, whole) <= prober.structural(shape, whole)


def test_the_best_mix_fits_and_none_weighed_beats_it(model, calibration, table):
    prober = Prober(model, calibration, torch.arange(1, 401))
    whole, overhead = Shape.of(model.anatomy), metadata_bytes(model)
    smallest, least = smallest_file(model, table, overhead)
    for target in (300_000, 140_000, 60_000, smallest):
        best, weighed = best_mix(model, table, prober, target, overhead)
        assert best is not None and weighed[0] == best and min(mix.damage for mix in weighed) == best.damage
        room = target - overhead_of(best.shape, whole, overhead)
        assert smallest_bytes(table_of(best.shape, model, table)) <= room
        assert (best.shape == whole) == (target >= 140_000)
    assert best.shape == least
    assert best_mix(model, table, prober, smallest - 1, overhead) == (None, [])


def test_a_mix_s_damage_is_the_sum():
    assert Mix(Shape(1, 2, 3), 0.25, 0.5).damage == 0.75


def test_a_budget_is_understood_from_text_and_numbers():
    budget = Budget.parse(fit="80MB", speed="20tok/s", keep="95%", within="4m")
    assert budget == Budget(80_000_000, 20.0, 0.95, 240.0)
    assert budget.to_dict() == {"fit": 80_000_000, "speed": 20.0, "keep": 0.95, "within": 240.0}
    assert Budget.parse(fit=80) == Budget(80) and Budget.parse(speed=20) == Budget(speed=20.0)


@pytest.mark.parametrize(
    "words", [{"fit": -5}, {"fit": 0}, {"fit": True}, {"fit": 80, "within": -1}, {"fit": 80, "within": 0}]
)
def test_numbers_out_of_range_are_refused(words):
    with pytest.raises(RecipeError):
        Budget.parse(**words)
