"""A draft for a tiny model: made, measured, kept with the model, and found by what runs and serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from smidgen.cli.main import app
from smidgen.inference.engine import open_engine
from smidgen.inference.options import GenerationOptions
from smidgen.inference.setup import Setup
from smidgen.inference.speculation import SpeculationRequest
from smidgen.models.checkpoint import gguf
from smidgen.models.sources import from_store, pull
from smidgen.models.store import Store
from smidgen.recipe.drafting import CALIBRATION_WINDOWS, MEASURED_WINDOWS, make_draft
from smidgen.recipe.journal import Journal
from smidgen.recipe.materials import Materials
from smidgen.serving.library import Library


@pytest.fixture
def made(source: Path, data: Path, hurried: None, smidgen_home: Path, tmp_path: Path) -> tuple[Any, Store]:
    """The draft, and the store that holds its model."""
    store = Store()
    pull(str(source), store, name="tiny")
    return make_draft("tiny", data=str(data), within=64, out=tmp_path / "draft", threads=1), store


def test_a_draft_is_small_measured_and_found(made: tuple[Any, Store]) -> None:
    outcome, store = made
    receipt = outcome.receipt
    guesses = receipt["draft"]
    assert guesses["for"] == "tiny:latest" and guesses["identical"]
    assert guesses["drafted"] > 0 and 0 <= guesses["acceptance"] <= 1
    assert receipt["source"]["name"] == "tiny:latest" and receipt["met"] == {"size": None, "speed": None, "keep": None}
    assert receipt["steps"][0]["operation"] == "prune"

    stored = store.resolve("tiny")
    local = from_store(stored)
    draft = Setup.of(local).draft
    assert draft is not None and draft == Library(store).find("tiny").draft
    whole, small = gguf.read(local.path).metadata, gguf.read(draft).metadata
    assert small["tokenizer.ggml.tokens"] == whole["tokenizer.ggml.tokens"]
    assert small["llama.block_count"] == 1 < whole["llama.block_count"]

    options = GenerationOptions(temperature=0, num_predict=24)
    texts = []
    for request in (SpeculationRequest("off"), SpeculationRequest("draft", draft)):
        with open_engine(local.path, threads=1, context=128, speculation=request) as engine:
            *pieces, last = engine.complete("import sys\n", options)
        texts.append("".join(piece.text for piece in pieces))
    assert texts[0] == texts[1]
    assert last.metrics is not None and last.metrics.drafted_tokens > 0


def test_a_short_clock_is_spent_on_healing(
    source: Path, data: Path, hurried: None, smidgen_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "elapsed", 0.0)  # no less is left on a busy machine
    monkeypatch.setattr(Materials, "sensitivity", lambda *_: pytest.fail("its format is fixed"))
    stages: list[str] = []
    settings = {"data": str(data), "threads": 1, "progress": lambda event: stages.append(event.stage)}
    outcome = make_draft(str(source), within=45, out=tmp_path / "draft", **settings)
    assert outcome.receipt["samples"] == []
    assert not {"probing sensitivity", "asking both models"} & set(stages)
    decided = {each["name"]: each["value"] for each in outcome.receipt["plan"]["decisions"]}
    assert decided["draft: healing"]["steps"] > 0 and decided["measured windows"] == MEASURED_WINDOWS
    assert decided["calibration windows"] == CALIBRATION_WINDOWS
    assert [step["operation"] for step in outcome.receipt["steps"]] == ["prune", "distill", "quantize"]


def test_the_command_line_says_what_does_not_go_together() -> None:
    for words in (["x", "--draft-for", "y"], ["--draft-for", "y", "--fit", "1MB"], ["--draft-for", "y", "--dry-run"]):
        result = CliRunner().invoke(app, ["make", *words])
        assert result.exit_code == 2 or "--draft-for goes with" in str(result.exception)
    result = CliRunner().invoke(app, ["make"])
    assert result.exit_code == 2 or "no model" in str(result.exception)
