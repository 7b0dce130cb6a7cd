"""What every source of models promises."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from smidgen import registry
from smidgen.errors import SourceUnavailable
from smidgen.models.reference import Reference
from smidgen.models.sources import LocalModel, fetch
from smidgen.models.store import Store

PACKAGE = "smidgen.models.sources"
REFERENCES = {
    "index": lambda folder: Reference("catalog", "smollm2:135m"),
    "hub": lambda folder: Reference("hub", "org/name", "main"),
    "folder": lambda folder: Reference("folder", "model", path=folder),
    "gguf_file": lambda folder: Reference("gguf", "a.gguf", path=folder / "a.gguf"),
    "ollama_registry": lambda folder: Reference("ollama", "llama3.2:1b"),
}


def test_the_sweep_is_whole() -> None:
    assert set(registry.names(PACKAGE)) == set(REFERENCES)


@pytest.mark.parametrize("name", registry.names(PACKAGE))
def test_a_source_is_a_frozen_dataclass_with_the_two_methods(name: str) -> None:
    source = registry.find(PACKAGE, name)
    assert dataclasses.is_dataclass(source) and source.__dataclass_params__.frozen
    assert list(inspect.signature(source.fetch).parameters) == ["self", "reference", "store", "offline", "progress"]
    assert list(inspect.signature(source.files).parameters) == ["self", "model"]
    assert source.__doc__


@pytest.mark.parametrize("name", registry.names(PACKAGE))
def test_offline_a_source_delivers_from_this_machine_or_says_that_it_cannot(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file, content in {"config.json": b"{}", "model.safetensors": bytes(16), "a.gguf": b"GGUF"}.items():
        (folder / file).write_bytes(content)
    store = Store(tmp_path / "store")
    reference = REFERENCES[name](folder)
    if name in ("index", "hub", "ollama_registry"):
        with pytest.raises(SourceUnavailable, match="not in the store yet"):
            fetch(reference, store, offline=True)
    else:
        model = fetch(reference, store, offline=True)
        files = registry.find(PACKAGE, name)().files(model)
        assert isinstance(model, LocalModel) and len(model.sha256) == 64 and model.bytes > 0
        assert files and all(path.is_file() for path in files.values())
    assert not store.root.exists()
