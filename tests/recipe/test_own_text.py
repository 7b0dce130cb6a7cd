"""Where no data are given, half of the calibration is what the model writes itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from smidgen.data.packing import windows
from smidgen.data.resolve import CalibrationData
from smidgen.data.rows import Corpus, Row
from smidgen.models.load import load
from smidgen.models.model import Model
from smidgen.recipe import own_text
from smidgen.recipe.materials import Materials

READ = Corpus("made up", (Row("\n".join(f"line {number} of what is read" for number in range(400))),))


@pytest.fixture(scope="module")
def model(source) -> Model:
    return load(str(source))


def materials_of(model: Model, *, stand_in: bool = True, kept: Path | None = None, count: int = 5) -> Materials:
    return Materials(model, CalibrationData(READ, READ, READ, stand_in), count, 64, 0, 1, kept)


def test_a_model_writes_as_much_as_asked_for_and_the_same_again(model):
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    events = []
    text = own_text.write(model, 3 * own_text.PASSAGE, progress=events.append)
    assert len(text.rows) == 3 and text.characters > 100 and events
    assert own_text.write(model, 3 * own_text.PASSAGE).sha256 == text.sha256
    assert own_text.write(model, 3 * own_text.PASSAGE, seed=1).sha256 != text.sha256
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())


def test_a_model_that_knows_one_word_writes_it(model):
    """Drawn as likely as the model finds it: with its final norm's scale raised, only the likeliest token is left."""
    sure = model.clone()
    sure.module.model.norm.weight.data.mul_(1e4)
    ids = torch.full((2, 1), 5)
    likeliest = int(sure.module(ids[:1]).logits[0, -1].argmax())
    written = own_text._continued(sure.module, ids, 1, torch.Generator().manual_seed(3), lambda event: None)
    assert written == [[likeliest], [likeliest]]


def test_every_other_window_is_the_models_own(model):
    found = materials_of(model)
    assert found.own_text is not None
    own = windows(found.own_text, model.tokenizer, length=64, count=2, seed=0)
    read = windows(READ, model.tokenizer, length=64, count=3, seed=0)
    assert torch.equal(found.calibration(model), torch.stack([read[0], own[0], read[1], own[1], read[2]]))
    assert found.own_text.sha256 in found.identity()["text"]


def test_the_users_data_are_not_mixed_with_anything(model):
    found = materials_of(model, stand_in=False)
    assert found.own_text is None and found.identity()["text"] == READ.sha256
    assert torch.equal(found.calibration(model), windows(READ, model.tokenizer, length=64, count=5, seed=0))
    assert materials_of(model, count=1).own_text is None


def test_what_was_written_is_kept_for_the_next_run(model, tmp_path, monkeypatch):
    first = materials_of(model, kept=tmp_path / "own_text.json")
    text = first.own_text
    monkeypatch.setattr(own_text, "write", lambda *_, **__: pytest.fail("written twice"))
    again = materials_of(model, kept=tmp_path / "own_text.json")
    assert again.own_text == text and text is not None and replace(text, name="").sha256 == text.sha256
