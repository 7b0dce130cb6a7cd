"""The engine remote against real servers: smidgen's own, which speaks both protocols, and ones that misbehave."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound, SmidgenError, SourceUnavailable
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.engines.remote import Remote
from smidgen.inference.options import GenerationOptions
from smidgen.inference.remote_address import parse_address

GREEDY = GenerationOptions(temperature=0, num_predict=3)
Running = runpy.run_path(str(Path(__file__).parents[2] / "serving" / "conftest.py"))["Running"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    running = Running(tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


@pytest.mark.parametrize("place", ["/echo", "/v1/echo"], ids=["ollama", "openai"])
def test_both_protocols_answer_and_count(server: Any, place: str) -> None:
    with open_engine(server.address + place) as opened:
        assert isinstance(opened, Remote)
        assert opened.facts.model == "echo" and opened.facts.protocol == ("openai" if "v1" in place else "ollama")
        for answer in (
            opened.chat([Message("user", "one two three four")], GREEDY),
            opened.complete("one two three four", GREEDY),
        ):
            *pieces, last = answer
            assert "".join(piece.text for piece in pieces) == "one two three"
            assert last.reason == "length" and last.metrics is not None
            assert last.metrics.generated_tokens == 3 and last.metrics.prompt_tokens == 4
            assert last.metrics.prompt_seconds > 0
        *_, last = opened.complete("one", GREEDY)
        assert last.reason == "stop"


def test_unknown_models_are_told(server: Any) -> None:
    with pytest.raises(InvalidInput, match="names no model"):
        open_engine(server.address)
    with pytest.raises(ReferenceNotFound, match="no model on http"):
        open_engine(f"{server.address}/ecko")
    with (
        open_engine(f"{server.address}/v1/ecko") as opened,
        pytest.raises(ReferenceNotFound, match="ecko"),
    ):
        list(opened.complete("one", GREEDY))


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("http://", "no address"),
        ("http://a b/c", "no address"),
        ("http://me:secret@host/model", "SMIDGEN_REMOTE_KEY"),
        ("http://host:99999/model", "no address"),
        ("http://host/model?x=1", "no address"),
        ("smollm2:135m", "no address"),
    ],
)
def test_what_is_no_address_is_said(address: str, part: str) -> None:
    with pytest.raises(InvalidInput, match=part) as caught:
        parse_address(address)
    assert "secret" not in str(caught.value)


def test_an_address_in_brackets_keeps_them() -> None:
    found = parse_address("http://[::1]:8080/model")
    assert found.base == "http://[::1]:8080" and found.is_loopback and str(found) == "http://[::1]:8080/model"


def test_nobody_there_is_said_plainly() -> None:
    with pytest.raises(SourceUnavailable, match=r"http://127\.0\.0\.1:9 does not answer"):
        open_engine("http://127.0.0.1:9/model")


class Misbehaving(BaseHTTPRequestHandler):
    """Answers every request with what the test put down."""

    answer: ClassVar[tuple[int, bytes]] = (200, b"")
    seen: ClassVar[list[str | None]] = []

    def _send(self) -> None:
        status, body = type(self).answer
        type(self).seen.append(self.headers["Authorization"])
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if type(self).answer[0] in (401, 403):
            self._send()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def misbehaving() -> Iterator[Callable[[int, bytes], str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def answering(status: int, body: bytes) -> str:
        Misbehaving.answer = (status, body)
        return f"http://127.0.0.1:{server.server_port}/v1/model"

    yield answering
    server.shutdown()
    thread.join()
    server.server_close()


def event(**content: Any) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


HALF = event(choices=[{"delta": {"content": "It is"}, "finish_reason": None}])


@pytest.mark.parametrize(
    ("status", "body", "kind", "part"),
    [
        (200, HALF, EngineFailed, "without its last part"),
        (200, b"", EngineFailed, "without its last part"),
        (200, HALF + b"data: {half\n", EngineFailed, "neither Ollama's nor OpenAI's"),
        (200, b"data: [1]\n", EngineFailed, "neither Ollama's nor OpenAI's"),
        (200, HALF + event(error={"message": "out of memory."}), EngineFailed, "failed: out of memory"),
        (500, b"<html>", EngineFailed, "answered 500: <html>"),
        (429, b"", EngineFailed, "429"),
        (404, b'{"error": "model not found"}', ReferenceNotFound, "model not found"),
        (400, b'{"error": {"message": "too long."}}', InvalidInput, "does not accept the request: too long"),
    ],
)
def test_a_server_that_misbehaves_is_said(
    misbehaving: Any, status: int, body: bytes, kind: type[SmidgenError], part: str
) -> None:
    with open_engine(misbehaving(status, body)) as opened, pytest.raises(kind, match=part):
        list(opened.complete("one", GREEDY))


def test_a_server_that_counts_nothing_is_taken_to_send_one_token_with_each_piece(misbehaving: Any) -> None:
    body = HALF + HALF + event(choices=[{"delta": {}, "finish_reason": "stop"}])
    with open_engine(misbehaving(200, body)) as opened:
        *_, last = opened.chat([Message("user", "?")], GREEDY)
    assert last.metrics is not None and last.metrics.generated_tokens == 2 and last.reason == "stop"


def test_the_key_is_shown_to_the_server_and_asked_for(misbehaving: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="SMIDGEN_REMOTE_KEY"):
        open_engine(misbehaving(401, b""))
    monkeypatch.setenv("SMIDGEN_REMOTE_KEY", "secret")
    with (
        open_engine(misbehaving(200, event(choices=[{"text": "a", "finish_reason": "stop"}]))) as opened,
    ):
        list(opened.complete("one", GREEDY))
    assert Misbehaving.seen[-1] == "Bearer secret"


class Forgetful(Misbehaving):
    """Keeps a connection, as HTTP 1.1 does, and closes it without a word when it is used again."""

    protocol_version = "HTTP/1.1"
    closed: ClassVar[int] = 0

    def handle_one_request(self) -> None:
        if hasattr(self, "used"):
            type(self).closed += bool(self.rfile.peek(1))
            self.close_connection = True
            return
        self.used = True
        super().handle_one_request()


def test_a_connection_that_the_server_closed_in_silence_is_opened_again() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Forgetful)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Misbehaving.answer = (200, event(choices=[{"text": "a", "finish_reason": "stop"}]) + b"data: [DONE]\n\n")
    try:
        with open_engine(f"http://127.0.0.1:{server.server_port}/v1/model") as opened:
            for _ in range(3):
                assert "".join(chunk.text for chunk in opened.complete("one", GREEDY)) == "a"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert Forgetful.closed == 2  # once before each answer after the first
