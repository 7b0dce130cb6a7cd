"""Each bound of a request is a setting, and beyond it the client is told so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from smidgen.serving.app import create
from smidgen.serving.settings import ServingSettings

Ask = Callable[..., httpx.Response]


SCHEMA = {"type": "object", "properties": {"a" * 50: {"type": "string"}}}
HI = {"prompt": "hi"}
HELLO = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("setting", "path", "fields", "status", "words"),
    [
        ({"max_body": 60}, "/api/generate", {"prompt": "x" * 60}, 413, "the request body is larger than 60 bytes"),
        ({"max_bodies": 60}, "/api/generate", {"prompt": "x" * 60}, 413, "the request body is larger than 60 bytes"),
        ({"max_grammar": 60}, "/api/generate", HI | {"format": SCHEMA}, 400, "at most 60 are taken"),
        ({"max_grammar": 60}, "/v1/completions", HI | {"grammar": "root ::= " + "x" * 60}, 400, "longer than 60 bytes"),
        ({"max_context": 60}, "/api/generate", HI | {"options": {"num_ctx": 61}}, 400, "must be at most 60"),
        ({"max_texts": 2}, "/api/embed", {"input": ["a", "b", "c"]}, 413, "at most 2 texts"),
        ({"max_texts": 2}, "/v1/chat/completions", {"messages": [{"role": "user"}], "n": 10**12}, 400, "at most 2"),
        ({"max_texts": 2}, "/v1/completions", {"prompt": ["a", "b"], "n": 2}, 400, "at most 2 answers"),
    ],
)
def test_what_is_beyond_a_bound_is_refused(
    ask: Ask, setting: dict[str, Any], path: str, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = ask("POST", path, {"model": "echo", **fields}, **setting)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    if fields.get("n", 1) < 10:
        assert ask("POST", path, {"model": "echo", **fields}).status_code == 200


def test_bodies_that_wait_hold_no_more_than_the_server_keeps_of_them() -> None:
    async def ask(client: httpx.AsyncClient, path: str, words: str, more: asyncio.Event) -> httpx.Response:
        async def content() -> AsyncIterator[bytes]:
            yield json.dumps({"model": "echo", "prompt": words, "messages": HELLO, "max_tokens": 9})[:-1].encode()
            await more.wait()
            yield b"}"

        return await client.post(path, content=content())

    async def talk() -> None:
        app = create(ServingSettings(max_bodies=3000))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        now, later = asyncio.Event(), asyncio.Event()
        now.set()
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            waiting = asyncio.ensure_future(ask(client, "/api/generate", "x" * 2000, later))
            await asyncio.sleep(0.05)
            for path in ("/api/generate", "/v1/completions", "/v1/messages"):
                refused = await ask(client, path, "y" * 2000, now)
                assert refused.status_code == 503 and "hold 3000 bytes already" in refused.text
            assert (await ask(client, "/api/generate", "z", now)).status_code == 200
            later.set()
            assert (await waiting).status_code == 200
            assert (await ask(client, "/api/generate", "y" * 2000, now)).status_code == 200
        await app.state.service.close()

    asyncio.run(talk())


def test_every_bound_is_read_from_the_environment() -> None:
    names = ("QUEUE", "CONTEXT", "BODY", "BODIES", "IMAGE", "IMAGES", "PIXELS", "GRAMMAR", "TEXTS", "LOADED_MODELS")
    settings = ServingSettings.from_environment({f"SMIDGEN_MAX_{name}": "7" for name in names})
    fields = (each.lower() for each in names)
    assert {getattr(settings, f"max_{name.removesuffix('_models')}") for name in fields} == {7}
