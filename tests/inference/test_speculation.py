"""Guessing ahead: what is asked for, that greedy texts stay the same, and that what was measured is remembered."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.export import gguf
from smidgen.inference import speculation_trial
from smidgen.inference.engine import open_engine
from smidgen.inference.llama_server import LlamaServer, ServerSettings
from smidgen.inference.options import GenerationOptions
from smidgen.inference.speculation import NGRAM, OFF, Speculation, SpeculationRequest, mode_from
from smidgen.inference.speculation_trial import Trial, decide, measure
from smidgen.models.store import Store

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
TEXT = "for name in names:\n    print(name)\n" * 3
GREEDY = GenerationOptions(temperature=0, num_predict=48)
SHORT = ServerSettings(context=256, threads=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and the same with its weights a little moved, as a draft that is often right. Read only."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny")
    model = build_model()
    gguf.write(model, folder / "model.gguf", float_format="float32")
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.module.parameters():
            weights.add_(torch.randn_like(weights) * weights.std() * 0.03)
    gguf.write(model, folder / "draft.gguf", float_format="float32")
    return folder / "model.gguf"


def written(path: Path, **asked: Any) -> tuple[str, Any]:
    with open_engine(path, threads=1, context=256, **asked) as engine:
        *pieces, last = engine.complete(TEXT, GREEDY)
    return "".join(piece.text for piece in pieces), last.metrics


def test_greedy_texts_are_the_same_with_every_way_of_guessing(tiny: Path) -> None:
    plain, metrics = written(tiny)
    assert plain and metrics.drafted_tokens == 0
    for request in (
        SpeculationRequest("ngram"),
        SpeculationRequest("draft", tiny.with_name("draft.gguf")),
        SpeculationRequest("draft", tiny.with_name("draft.gguf"), 9),
    ):
        text, metrics = written(tiny, speculation=request)
        assert text == plain
        assert request.mode == "ngram" or metrics.drafted_tokens >= metrics.accepted_tokens > 0
    text, metrics = written(tiny, speculation=SpeculationRequest("off", tiny.with_name("draft.gguf")))
    assert text == plain and metrics.drafted_tokens == 0


def test_a_real_model_copies_faster_in_steps_and_writes_the_same(smollm2_gguf: Path) -> None:
    asked = {"prompt": speculation_trial.PROMPTS["copying"], "n_predict": 24, "temperature": 0}
    answers = []
    for way in (OFF, NGRAM):
        server = LlamaServer(smollm2_gguf, ServerSettings(context=512, threads=1, speculation=way))
        try:
            response = httpx.post(server.address + "/completion", json=asked, headers=server.headers, timeout=100)
        finally:
            server.close()
        answers.append(response.json())
    assert answers[0]["content"] == answers[1]["content"]
    assert "Miller and Sons, 12 Baker Street" in answers[0]["content"]
    assert answers[1]["timings"]["draft_n_accepted"] >= 10


def test_auto_measures_once_and_remembers(tiny: Path, smidgen_home: Path) -> None:
    trials = measure(tiny, SHORT, [NGRAM])
    assert [trial.speculation for trial in trials] == [NGRAM] and trials[0].identical
    assert set(trials[0].gains) == set(speculation_trial.PROMPTS)

    decide(tiny, SHORT, SpeculationRequest())
    memory = smidgen_home / "cache" / speculation_trial.MEMORY
    [(key, known)] = json.loads(memory.read_text()).items()
    assert known["trials"][0]["identical"]
    for kind, way in (("ngram", NGRAM), ("off", OFF)):  # what is written there counts: nothing is measured again
        memory.write_text(json.dumps({key: known | {"kind": kind}}))
        assert decide(tiny, SHORT, SpeculationRequest(), Store()) == way
        assert json.loads(memory.read_text()) == {key: known | {"kind": kind}}
    memory.write_text("{")
    decide(tiny, SHORT, SpeculationRequest())
    assert list(json.loads(memory.read_text())) == [key]


def test_nothing_is_tried_where_guesses_cannot_help(tiny: Path, smidgen_home: Path) -> None:
    for settings in (ServerSettings(slots=2), ServerSettings(embeddings=True)):
        assert decide(tiny, settings, SpeculationRequest()) == OFF
    assert decide(tiny, SHORT, SpeculationRequest("off")) == OFF
    assert decide(tiny, ServerSettings(slots=2), SpeculationRequest("ngram")) == NGRAM
    assert not (smidgen_home / "cache").exists()


def test_what_is_asked_for_is_checked() -> None:
    with pytest.raises(ReferenceNotFound, match="Did you mean 'ngram'"):
        SpeculationRequest("ngrams")
    for request in ({"mode": "draft"}, {"mode": "draft", "draft": Path("x.gguf"), "tokens": 0}):
        with pytest.raises(InvalidInput, match="no draft"):
            SpeculationRequest(**request)  # type: ignore[arg-type]
    assert mode_from({"OLLAMA_SPECULATE": " Off "}) == "off"


@pytest.mark.parametrize(
    ("kind", "copying", "writing", "identical", "helps"),
    [
        ("ngram", 1.5, 1.0, True, True),
        ("ngram", 1.5, 1.0, False, False),
        ("ngram", 1.5, 0.9, True, False),
        ("ngram", 1.05, 1.0, True, False),
        ("draft", 1.0, 1.2, True, True),
        ("draft", 1.5, 1.0, True, False),
    ],
)
def test_a_way_is_switched_on_only_where_it_helps(
    kind: Any, copying: float, writing: float, identical: bool, helps: bool
) -> None:
    trial = Trial(Speculation(kind), {"copying": copying, "writing": writing}, identical)
    assert trial.helps is helps
