"""How likely prompts are: a tiny model's own figures, the limits, and what is refused."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import httpx
import pytest

from smidgen.export import safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models.store import Store
from smidgen.serving.dialects._openai_writing import spelled
from smidgen.serving.exchange import TokenLogprob

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
TEXT = "import argparse"


@pytest.fixture
def stored(smidgen_home: Path, tmp_path: Path) -> Path:
    """A folder with a tiny model, which is also in the store as "tiny" and, with an adapter, as "adapted"."""
    folder = tmp_path / "tiny"
    safetensors.write(build_model(), folder)
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    Store(smidgen_home).add("tiny", files, {"parameters": {"num_ctx": 16}})
    (tmp_path / "adapter.gguf").write_bytes(b"GGUF")
    Store(smidgen_home).add(
        "adapted", {**files, "adapter.gguf": tmp_path / "adapter.gguf"}, {"adapters": ["adapter.gguf"]}
    )
    return folder


def test_a_models_own_figures_are_told(stored: Path, ask: Any, smidgen_home: Path) -> None:
    asked = {"model": "tiny", "prompt": TEXT, "echo": True, "logprobs": 3, "max_tokens": 1, "temperature": 0}
    answer: httpx.Response = ask("POST", "/v1/completions", asked, threads=1)
    assert answer.status_code == 200, answer.text
    shown = answer.json()["choices"][0]["logprobs"]
    (path,) = (smidgen_home / "cache").glob("*.gguf")
    with PromptScorer(path, threads=1, context=16) as scorer:
        ids = scorer.tokenize(TEXT)
        native = scorer.next_token_logprobs(ids)
        logits = scorer.logits(ids)
        pieces = [spelled(TokenLogprob("", 0.0, piece)) for piece in scorer.pieces()]
    assert shown["tokens"] == [*(pieces[token] for token in ids), pieces[int(logits[-1].argmax())]]
    assert shown["token_logprobs"][1:-1] == pytest.approx(native.tolist(), abs=1e-5)
    for place, row in zip(shown["top_logprobs"][1:], logits, strict=True):
        assert max(place, key=lambda token: place[token]) == pieces[int(row.argmax())]
        assert 3 <= len(place) <= 4


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"prompt": [5] * 17}, "exceeds the context"),
        ({"prompt": [5, 10**6]}, "not in the vocabulary"),
        ({"prompt": ""}, "empty prompt"),
        ({"model": "adapted"}, "adapters are kept apart"),
    ],
)
def test_what_cannot_be_scored_is_refused(stored: Path, ask: Any, fields: dict[str, Any], reason: str) -> None:
    asked = {"model": "tiny", "prompt": TEXT, "echo": True, "logprobs": 0, "max_tokens": 0, **fields}
    answer = ask("POST", "/v1/completions", asked, threads=1)
    assert answer.status_code == 400 and reason in answer.json()["error"]["message"]
