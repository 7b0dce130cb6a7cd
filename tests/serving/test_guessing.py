"""A server that guesses ahead: shown where loaded models are, and without guesses where their odds are asked for."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smidgen.errors import ReferenceNotFound
from smidgen.export import gguf
from smidgen.models.store import Store
from smidgen.serving.settings import ServingSettings

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
ASK = {"model": "tiny", "prompt": "import sys, os\n" * 4, "raw": True, "stream": False}
GREEDY = {"temperature": 0, "num_predict": 12, "num_thread": 1}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    gguf.write(build_model(), tmp_path / "tiny.gguf", float_format="float32")
    Store(tmp_path / "home").add("tiny", {"model.gguf": tmp_path / "tiny.gguf"}, {"format": "gguf"})
    return tmp_path / "home"


def test_what_is_guessed_is_shown_and_log_probabilities_are_not_guessed(
    home: Path, start_server: Callable[..., Any]
) -> None:
    server = start_server(home, "--speculate", "ngram")
    try:
        guessed = server.client.post("/api/generate", json=ASK | {"options": GREEDY}).json()
        [loaded] = server.client.get("/api/ps").json()["models"]
        assert loaded["speculation"] == "ngram"

        told = server.client.post("/api/generate", json=ASK | {"options": GREEDY, "logprobs": True}).json()
        assert told["response"] == guessed["response"]
        assert told["eval_count"] == 12 and told["logprobs"]
        assert all(entry["logprob"] < 0 for entry in told["logprobs"])
        [loaded] = server.client.get("/api/ps").json()["models"]
        assert loaded["speculation"] == "off"

        server.client.post("/api/generate", json=ASK | {"options": GREEDY})
        [loaded] = server.client.get("/api/ps").json()["models"]
        assert loaded["speculation"] == "off"  # it is not loaded anew to guess again
    finally:
        server.stop()


def test_names_that_do_not_exist_are_told() -> None:
    with pytest.raises(ReferenceNotFound, match=r"no engine 'vlm'.*vllm"):
        ServingSettings(engine="vlm")
    with pytest.raises(ReferenceNotFound, match="way to speculate"):
        ServingSettings(speculate="fast")
    assert ServingSettings.from_environment({"SMIDGEN_SPECULATE": "NGRAM"}).speculate == "ngram"
