"""Whatever is sent: a clear refusal or an answer, never a traceback, and the server goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.serving.app import create
from smidgen.serving.settings import ServingSettings

PATHS = ["generate", "chat", "embed", "embeddings", "show", "copy"]
FIELDS = [
    *("model", "name", "messages", "prompt", "input", "options", "format", "tools", "think", "images", "stream"),
    *("raw", "suffix", "system", "template", "context", "keep_alive", "truncate", "top_logprobs", "logprobs"),
    *("source", "destination", "dimensions", "role", "content", "function", "arguments"),
]
WEIRD = ["echo", "", "../../../etc/passwd", "a/b/c/d/e/f", "\ud800", "\x00", "x" * 300, "hf:x/y@z", "json", "5m", "-1"]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.sampled_from(WEIRD)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)


class Asked:
    """A server inside this process that is asked many times."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.app = create(ServingSettings(max_body=200_000))
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def post(self, path: str, content: bytes) -> httpx.Response:
        return self.loop.run_until_complete(asyncio.wait_for(self.client.post(path, content=content), 20))

    def close(self) -> None:
        self.loop.run_until_complete(self.client.aclose())
        self.loop.run_until_complete(self.app.state.service.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture
def asked() -> Iterator[Asked]:
    server = Asked()
    yield server
    server.close()


def check(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 400, 404, 413), (answer.status_code, answer.text)
    assert "Traceback" not in answer.text
    if answer.status_code != 200:
        assert isinstance(answer.json()["error"], str)
    elif answer.text:
        for line in answer.text.splitlines():
            assert "internal fault" not in str(json.loads(line).get("error"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), body=bodies, is_echo=st.booleans())
def test_any_json_is_answered_or_refused(asked: Asked, path: str, body: dict[str, Any], is_echo: bool) -> None:
    asked_for = body | ({"model": "echo"} if is_echo else {})
    check(asked.post(f"/api/{path}", json.dumps(asked_for).encode()))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=60))
def test_any_bytes_are_refused(asked: Asked, path: str, body: bytes) -> None:
    check(asked.post(f"/api/{path}", body))


def deep(depth: int) -> Any:
    return {"properties": {"a": deep(depth - 1)}} if depth else {"type": "string"}


@pytest.mark.parametrize(
    "fields",
    [
        {"format": deep(80)},
        {"format": {"$ref": "#"}},
        {"format": {"enum": list(range(60_000))}},
        {"format": {"type": "string", "pattern": "(a{1,1000}){1,1000}"}},
        {"template": "{{ range .Messages }}" * 100},
        {"template": "{{ .X.Y.Z }}{{ index . 1 }}"},
        {"options": {"stop": [1]}},
        {"options": {"num_ctx": -5, "num_predict": -3}},
        {"options": {"seed": 2**80}},
        {"options": {"temperature": 1e308, "top_p": -0.0}},
        {"images": ["A" * 150_000]},
        {"images": ["AAAA"] * 40},
        {"context": [-1, 2**40]},
        {"prompt": "\ud800\udfff \x00 ﷽" * 100},
        {"keep_alive": 1e300},
        {"keep_alive": "9" * 17 + "h"},
    ],
)
def test_what_would_break_a_careless_server_does_not(asked: Asked, fields: dict[str, Any]) -> None:
    check(asked.post("/api/generate", json.dumps({"model": "echo", "prompt": "hi", **fields}).encode()))
    turned = {key: value for key, value in fields.items() if key not in ("prompt", "images")}
    chat = {"model": "echo", "messages": [{"content": "hi", "images": fields.get("images")}], **turned}
    check(asked.post("/api/chat", json.dumps(chat).encode()))


def test_nothing_is_written_outside_the_store(asked: Asked, smidgen_home: Path) -> None:
    before = {path for path in smidgen_home.parent.rglob("*") if smidgen_home not in path.parents}
    for name in WEIRD:
        body = json.dumps({"model": name, "source": "echo", "destination": name}).encode()
        check(asked.post("/api/copy", body))
        check(asked.post("/api/show", body))
    assert {path for path in smidgen_home.parent.rglob("*") if smidgen_home not in path.parents} == before
