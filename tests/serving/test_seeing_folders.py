"""A folder that holds all that a model reads images with is served by torch, in both dialects."""

from __future__ import annotations

import base64
import io
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smidgen.models.store import Store

TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_mississippi.py"))


@pytest.fixture
def stored(smidgen_home: Path, tmp_path: Path) -> str:
    TINY["write"](tmp_path / "tiny", "llama")
    files = {path.name: path for path in (tmp_path / "tiny").iterdir()}
    return Store(smidgen_home).add("river", files, {"parameters": {"num_predict": 4, "temperature": 0}}).name


def encoded(size: tuple[int, int], colour: str) -> str:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return base64.b64encode(data.getvalue()).decode()


def test_images_are_answered(stored: str, ask: Any) -> None:
    assert "vision" in ask("POST", "/api/show", {"model": "river"}).json()["capabilities"]
    texts, counts = set(), []
    for images in ([], [encoded((56, 56), "red")], [encoded((100, 60), "blue")]):
        said = {"role": "user", "content": "What is it?", "images": images}
        answer = ask("POST", "/api/chat", {"model": "river", "messages": [said], "stream": False}, threads=1)
        assert answer.status_code == 200, answer.text
        counts.append(answer.json()["prompt_eval_count"])
        texts.add(answer.json()["message"]["content"])
    assert [count - counts[0] for count in counts] == [0, TINY["PLACES"] + 3, 7 * TINY["PLACES"] + 3]
    address = {"url": f"data:image/jpeg;base64,{encoded((100, 60), 'blue')}"}
    parts = [{"type": "image_url", "image_url": address}, {"type": "text", "text": "What is it?"}]
    asked = {"model": "river", "messages": [{"role": "user", "content": parts}], "max_tokens": 4, "temperature": 0}
    answer = ask("POST", "/v1/chat/completions", asked, threads=1)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] == counts[-1]
    read = {"model": "river", "prompt": "", "images": [encoded((56, 56), "red")], "stream": False}
    assert ask("POST", "/api/generate", read, threads=1).json()["eval_count"] >= 1


def test_what_cannot_be_is_refused_in_words(stored: str, ask: Any) -> None:
    said = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "?", "images": []}]
    answer = ask("POST", "/api/chat", {"model": "river", "messages": said, "stream": False}, threads=1)
    assert answer.status_code == 400 and "role 'system'" in answer.json()["error"]
    raw = {"model": "river", "prompt": "x", "raw": True, "images": [encoded((56, 56), "red")], "stream": False}
    answer = ask("POST", "/api/generate", raw, threads=1)
    assert answer.status_code == 400 and "conversations only" in answer.json()["error"]
