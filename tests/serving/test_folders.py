"""Models in the transformers layout are served too, and what their files say of them is told."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from smidgen.export import safetensors
from smidgen.models.store import Store
from smidgen.serving.details import header_of
from smidgen.serving.library import Library
from smidgen.serving.opening import estimate_bytes

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture
def stored(smidgen_home: Path, tmp_path: Path) -> str:
    folder = tmp_path / "tiny"
    safetensors.write(build_model(), folder)
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    facts = {"system": "Be tiny.", "parameters": {"num_predict": 3, "num_ctx": 64}, "licence": "mit"}
    return Store(smidgen_home).add("tiny", files, facts).name


def test_a_folder_is_turned_into_a_gguf_and_answers(stored: str, ask: Any, smidgen_home: Path) -> None:
    asked = {"model": "Tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    answer: httpx.Response = ask("POST", "/api/chat", asked, threads=1)
    assert answer.status_code == 200, answer.text
    assert 1 <= answer.json()["eval_count"] <= 3
    assert len(list((smidgen_home / "cache").glob("*.gguf"))) == 1


def test_a_folder_is_described(stored: str, ask: Any, smidgen_home: Path) -> None:
    (listed,) = ask("GET", "/api/tags").json()["models"]
    assert (listed["name"], listed["details"]["format"], listed["details"]["family"]) == (
        stored,
        "safetensors",
        "llama",
    )
    shown = ask("POST", "/api/show", {"model": "tiny", "verbose": True}).json()
    assert shown["system"] == "Be tiny."
    assert shown["parameters"].split() == ["num_ctx", "64", "num_predict", "3"]
    assert "SYSTEM" in shown["modelfile"] and "FROM tiny:latest" in shown["modelfile"]
    assert shown["license"] == "mit"
    kept = Store(smidgen_home).resolve(stored)
    licence = smidgen_home / "LICENSE"
    licence.write_text("Do as you like.\n", encoding="utf-8")
    Store(smidgen_home).add("tiny", {**kept.paths, "LICENSE": licence}, kept.facts)
    assert ask("POST", "/api/show", {"model": "tiny"}).json()["license"] == "Do as you like."
    assert {tensor["name"] for tensor in shown["tensors"]} >= {"model.embed_tokens.weight"}


def test_floats_of_torch_take_more_than_their_files(stored: str, smidgen_home: Path) -> None:
    model = Library(Store(smidgen_home)).find(stored)
    in_half = replace(model, bytes=model.bytes // 2)
    grown = estimate_bytes(in_half, 64, "torch") - estimate_bytes(in_half, 64)
    assert grown == 4 * header_of(model).parameters - in_half.bytes > 0
