"""A server on a real port, for the clients that people use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvicorn

from smidgen.models.store import Store
from smidgen.serving.app import create
from smidgen.serving.library import Library
from smidgen.serving.service import Service
from smidgen.serving.settings import ServingSettings


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with an empty store: it serves the echo engine."""
    with served(Store(tmp_path_factory.mktemp("empty-store"))) as found:
        yield found


@pytest.fixture(scope="session")
def smollm2_address(test_cache: Path, smollm2_gguf: Path) -> Iterator[str]:
    """Address of a server whose store holds smollm2:135m."""
    with served(Store(test_cache)) as found:
        yield found


@pytest.fixture
def serve() -> Callable[[Store], AbstractContextManager[str]]:
    """Serves a store's models, in a with block: ``with serve(store) as address``."""
    return served


@contextmanager
def served(store: Store) -> Iterator[str]:
    """Serve a store's models until the end of the block."""
    settings = ServingSettings(slots=2, threads=1, context=1024)
    app = create(settings, Service(settings, Library(store)))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
