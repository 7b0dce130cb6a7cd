"""Servers to ask: one inside the test's process, and ones in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from smidgen.serving.app import create
from smidgen.serving.settings import ServingSettings

Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask() -> Ask:
    """Ask a fresh server once: ``ask("POST", "/api/generate", {"model": "echo", ...}, slots=2)``."""

    def once(method: str, path: str, body: Any = None, headers: Any = None, **settings: Any) -> httpx.Response:
        return asyncio.run(_once(method, path, body, headers, ServingSettings(**settings)))

    return once


async def _once(method: str, path: str, body: Any, headers: Any, settings: ServingSettings) -> httpx.Response:
    app = create(settings)
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    base = f"http://127.0.0.1:{settings.port}"
    try:
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, content=content, headers=headers)
    finally:
        await app.state.service.close()


class Running:
    """A server in a process of its own."""

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smidgen", "serve", "--port", "0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "SMIDGEN_HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
        )
        assert self.process.stdout is not None
        said = b""
        while not said.rstrip().endswith(b"}"):
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1].decode()
            said += line
        self.seconds = time.monotonic() - began
        self.address = str(json.loads(said)["address"])
        self.client = httpx.Client(base_url=self.address, timeout=120, trust_env=False)

    def stop(self) -> tuple[int, str]:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors.decode()

    def figure(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert found is not None
        return float(found[1])


@pytest.fixture(scope="session")
def start_server() -> Callable[..., Running]:
    """Start a server in a process of its own: ``start_server(home, "--parallel", "2")``."""
    return Running
