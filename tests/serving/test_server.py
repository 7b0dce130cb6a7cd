"""A real server on a real port, with the echo engine."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from smidgen.cli.main import main
from smidgen.errors import InvalidInput, Locked
from smidgen.serving.server import bind, holder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, start_server: Any) -> Iterator[Any]:
    server = start_server(tmp_path_factory.mktemp("home"), "--parallel", "4")
    yield server
    code, errors = server.stop()
    assert (code, errors) == (0, "")


def test_it_answers_soon_after_its_start(running: Any) -> None:
    assert running.client.get("/").text == "Ollama is running"
    assert running.seconds < 30  # alone on a machine it is well below 5


def test_answers_to_fifty_clients_at_once_are_never_mixed(running: Any) -> None:
    def talk(number: int) -> list[bool]:
        said = []
        with httpx.Client(base_url=running.address, timeout=60, trust_env=False) as client:
            for turn in range(4):
                nonce = f"nonce-{number}-{turn}" + f" {number:03d}" * (number % 7)
                body = {"model": "echo", "messages": [{"role": "user", "content": nonce}], "stream": number % 2 == 0}
                answer = client.post("/api/chat", json=body)
                pieces = [json.loads(line) for line in answer.text.splitlines()]
                text = "".join(piece["message"]["content"] for piece in pieces)
                said.append(text == nonce)
        return said

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(talk, range(50)))
    assert {said for talked in answers for said in talked} == {True}
    assert running.figure("smidgen_active_requests") == running.figure("smidgen_waiting_requests") == 0


def test_connections_that_break_in_the_middle_leave_nothing_behind(running: Any) -> None:
    host, port = running.address.removeprefix("http://").split(":")
    body = json.dumps({"model": "echo", "prompt": "word " * 50_000}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for sent in (head, head + body[:1000], head + body):
        with socket.create_connection((host, int(port))) as broken:
            broken.sendall(sent)
            if sent.endswith(body):
                broken.recv(100)
    end = time.monotonic() + 10
    while running.figure("smidgen_active_requests") and time.monotonic() < end:
        time.sleep(0.05)
    assert running.figure("smidgen_active_requests") == 0
    assert running.client.get("/health").status_code == 200


def test_the_command_line_asks_it(
    running: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running.client.post("/api/generate", json={"model": "echo"})
    monkeypatch.setenv("SMIDGEN_HOST", running.address)

    def smidgen(*words: str) -> dict[str, Any]:
        main([*words, "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert [model["name"] for model in smidgen("ps")["models"]] == ["echo:latest"]
    assert main(["ps"]) == 0
    assert "from now" in capsys.readouterr().out
    assert smidgen("stop", "echo") == {"model": "echo", "stopped": True}
    assert running.client.get("/api/ps").json() == {"models": []}
    assert "not found" in smidgen("stop", "nothing")["error"]["message"]
    monkeypatch.setenv("SMIDGEN_HOST", "127.0.0.1:1")
    assert "smidgen serve" in smidgen("ps")["error"]["remedy"]


def test_a_port_that_is_taken_names_the_program_that_holds_it() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert f"(process {os.getpid()})" in holder(port)
        with pytest.raises(Locked, match=rf"Port {port} is taken by .*process {os.getpid()}"):
            bind("127.0.0.1", port)


def test_an_address_that_this_machine_has_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not allow to bind"):
        bind("192.0.2.1", 1)


def test_open_to_other_machines_needs_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert "without a key" in said and "SMIDGEN_API_KEY" in said
