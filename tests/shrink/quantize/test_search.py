import pytest
import torch

from smidgen.shrink.quantize import solvers
from smidgen.shrink.quantize.allocate import Choice, allocate, choices
from smidgen.shrink.quantize.search import Trial, improve
from smidgen.shrink.quantize.sensitivity import probe

WINDOWS = torch.randint(3, 400, (6, 48), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def trial(tiny_model):
    model = tiny_model()
    return Trial(model, probe(model, WINDOWS[:3]), WINDOWS[3:], solvers.find("gptq"))


def test_a_trial_measures_the_mix_it_is_given_whatever_came_before(trial):
    names = list(trial.model.anatomy.matrices())
    weights = {name: trial.model.weight(name).clone() for name in names}
    coarse, fine = dict.fromkeys(names, "q4_0"), dict.fromkeys(names, "q8_0")
    first = trial.divergence(coarse)
    assert 0 < trial.divergence(fine) < first
    assert trial.divergence({}) == pytest.approx(0, abs=1e-5), "unnamed matrices are the source's own again"
    assert trial.divergence(coarse) == first
    assert all(torch.equal(trial.model.weight(name), weight) for name, weight in weights.items())


def test_a_matrix_is_stored_once_in_each_format(trial):
    name = next(iter(trial.model.anatomy.matrices()))
    assert trial.stored(name, "q4_0") is trial.stored(name, "q4_0")


def test_a_wrong_prediction_is_found_out_within_the_budget(trial):
    """Damages foretold upside down make the worst mix; the search measures its way back."""
    table = choices(trial.model, trial.sensitivity, allowed=("q4_0", "q8_0"))
    budget = int(sum(front[0].bytes for front in table.values()) * 1.3)
    highest = max(choice.damage for front in table.values() for choice in front)
    wrong = {
        name: [Choice(each.format, each.bytes, highest / (1 + each.damage / front[-1].damage)) for each in front[:1]]
        + [front[-1]]
        for name, front in table.items()
    }
    start = allocate(wrong, budget)
    assert start is not None
    found = improve(table, start, budget, trial.divergence, trials=12, seed=1)
    assert found.after < found.before and 0 < found.kept < found.tried <= 12
    assert sum(choice.bytes for choice in found.mix.values()) <= budget
    mix = {name: choice.format for name, choice in found.mix.items()}
    assert trial.divergence(mix) == pytest.approx(found.after, rel=1e-6)


def test_the_same_seed_gives_the_same_search():
    front = [Choice("small", 4, 3.0), Choice("middle", 6, 2.0), Choice("large", 8, 1.0)]
    table = {name: front for name in "abcdef"}
    mix = {name: front[1] for name in table}

    def measure(names):
        return sum((index + 1) * {"small": 9, "middle": 4, "large": 1}[names[name]] for index, name in enumerate(table))

    one, two = (improve(table, mix, 36, measure, trials=30, seed=4) for _ in range(2))
    assert one == two and one.after < one.before
    assert sum(choice.bytes for choice in one.mix.values()) <= 36


def test_a_search_ends_when_every_swap_was_refused():
    front = [Choice("small", 4, 3.0), Choice("large", 8, 1.0)]
    found = improve({"a": front, "b": front}, {"a": front[0], "b": front[1]}, 12, lambda names: 1.0, trials=50)
    assert found.tried == 1 and found.kept == 0 and found.before == found.after == 1.0
