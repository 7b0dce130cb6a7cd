"""Tiny models on disk, and what commands need to be called with."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.export import gguf, safetensors
from smidgen.models.model import Model

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Model]:
    """Builds tiny random models."""
    builder: Callable[..., Model] = build_model
    return builder


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 3 blocks as GGUF, float16. Read only."""
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    gguf.write(build_model(), path)
    return path


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model in the transformers layout, with a card. Read only."""
    path: Path = tmp_path_factory.mktemp("tiny") / "tiny"
    safetensors.write(build_model(), path)
    card = "---\nlicense: mit\nbase_model: org/tiny\n---\nA tiny model.\n"
    (path / "README.md").write_text(card, encoding="utf-8")
    (path / "LICENSE").write_text("Do as you like.\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No terminal and nothing piped in."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(""))
