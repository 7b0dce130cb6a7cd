"""The application: its dialects and how it words what goes wrong."""

from __future__ import annotations

import asyncio

import httpx

from smidgen.serving.app import create


def ask(method: str, path: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(create())
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:11434") as client:
            return await client.request(method, path)

    return asyncio.run(run())


def test_it_says_that_it_runs() -> None:
    assert ask("GET", "/").text == "Ollama is running"
    assert ask("HEAD", "/").status_code == 200
    assert set(ask("GET", "/api/version").json()) == {"version"}


def test_unknown_paths_and_wrong_methods_are_told_apart() -> None:
    assert (ask("GET", "/api/nothing").status_code, ask("DELETE", "/api/version").status_code) == (404, 405)
