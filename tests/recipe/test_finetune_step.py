"""Fine-tuning as a step of a recipe: built, run, killed, gone on with, recorded with both curves."""

from __future__ import annotations

import pytest
import torch

from smidgen.data.resolve import CalibrationData
from smidgen.data.rows import Corpus, Row
from smidgen.errors import RecipeError
from smidgen.models.load import load
from smidgen.recipe.materials import Materials
from smidgen.recipe.recipe import Recipe, Step
from smidgen.recipe.runner import Runner

PROSE = tuple(Row(f"{number} def function_{number}(value): return value + {number}  # " * 3) for number in range(60))
TUNE = {"objective": "unsupervised", "batch_size": 2, "length": 64}
STEPS = (
    Step("quantize", {"default": "q8_0", "solver": "nearest"}),
    Step("finetune", {**TUNE, "method": "qlora", "rank": 4, "steps": 6, "learning_rate": 1e-3}),
    Step("prune", {"structure": "layer", "criterion": "block_influence", "keep": 3}),
    Step("finetune", {**TUNE, "steps": 6, "learning_rate": 1e-3, "rounding": "q4_0", "freeze": ["*norm*"]}),
)


@pytest.fixture
def materials(source) -> Materials:
    corpus = Corpus("made up", PROSE)
    texts = CalibrationData(corpus, corpus, corpus, True)
    return Materials(load(str(source)), texts, 4, 64, 0, 1)


def test_fine_tuning_stands_among_other_steps_and_keeps_its_curves(materials, tmp_path):
    model, records = Runner(materials, tmp_path, lambda event: None).run(STEPS)
    assert [step.operation for step in model.lineage.steps] == ["quantize", "finetune", "prune", "finetune"]
    for record in (records[1], records[3]):
        assert {"training", "held_out", "gap", "best_step", "stopped_early"} <= record.curves.keys()
        assert min(loss for _, loss in record.curves["held_out"]) < record.curves["held_out"][0][1]
    assert {packed.format for packed in model.packed.values()} == {"q4_0"}


def test_a_killed_step_ends_as_an_undisturbed_one(materials, tmp_path):
    expected, _ = Runner(materials, tmp_path / "whole", lambda event: None).run(STEPS[:2])
    seen = []

    def stop(event):
        seen.append(event.stage)
        if seen.count("fine-tuning") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(materials, tmp_path / "killed", stop).run(STEPS[:2])
    resumed, _ = Runner(materials, tmp_path / "killed", lambda event: None).run(STEPS[:2])
    state = expected.module.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in resumed.module.state_dict().items())


def test_a_recipe_with_fine_tuning_is_written_and_read(tmp_path):
    recipe = Recipe("smollm2:135m", STEPS)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.read(tmp_path / "recipe.yaml").to_yaml() == recipe.to_yaml()


@pytest.mark.parametrize(
    ("parameters", "part"),
    [({"methd": "lora"}, "'method'"), ({"rank": "many"}, "'rank' of finetune"), ({"method": "lorra"}, "'lora'")],
)
def test_what_does_not_exist_is_named(parameters, part, tmp_path):
    (tmp_path / "recipe.yaml").write_text(Recipe("smollm2:135m", (Step("finetune", parameters),)).to_yaml())
    with pytest.raises(RecipeError) as caught:
        Recipe.read(tmp_path / "recipe.yaml")
    assert part in str(caught.value)
