"""An in-process server, asked as a client asks one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
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
