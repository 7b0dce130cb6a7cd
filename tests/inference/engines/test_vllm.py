"""The engine vllm against a program of the same manners: its arguments, its answers, and how it begins and ends."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from smidgen.errors import EngineFailed, InvalidInput, MissingExtra, ReferenceNotFound, Unsupported
from smidgen.inference.engine import Demands, Message, TextEngine, open_engine
from smidgen.inference.engines.vllm import Vllm, arguments
from smidgen.inference.options import GenerationOptions
from smidgen.inference.speculation import SpeculationRequest


@pytest.fixture
def model(tmp_path: Path, vllm_program: Path) -> Path:
    """A folder that vLLM is to serve."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def told(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model.parent / "told.json").read_text())
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be run")
def test_a_server_is_started_asked_and_ended(model: Path) -> None:
    options = GenerationOptions(temperature=0, num_predict=3, top_k=0, seed=5, repeat_penalty=1.1, stop=("x",))
    with open_engine(model, engine="vllm", context=512) as engine:
        assert isinstance(engine, Vllm)
        *pieces, last = engine.chat([Message("user", "Hello")], options)
        assert "".join(piece.text for piece in pieces) == "Good day." and last.reason == "length"
        assert last.metrics is not None
        assert (last.metrics.prompt_tokens, last.metrics.generated_tokens) == (9, 3)
        engine.hold_to({"type": "object", "x-guidance": {}})
        assert "".join(piece.text for piece in engine.complete("Good", options)) == '{"a": 1}'
        assert engine.resident_bytes() > 0 and engine.load_seconds > 0
        seen = told(model)
    words = seen["words"]
    assert words[:4] == ["serve", str(model), "--served-model-name", "model"]
    assert words[words.index("--max-model-len") + 1] == "512"
    (chat, asked), (completions, held) = seen["asked"]
    assert held["prompt"] == [256, *b"Good"] and held["max_tokens"] == 3
    assert (chat, completions) == ("/v1/chat/completions", "/v1/completions")
    wanted = {"model": "model", "stream": True, "temperature": 0, "max_tokens": 3, "seed": 5, "top_k": -1}
    assert wanted.items() <= asked.items() and asked["repetition_penalty"] == 1.1 and asked["stop"] == ["x"]
    assert "response_format" not in asked
    assert held["response_format"]["json_schema"]["schema"] == {"type": "object"}
    end = time.monotonic() + 20
    while psutil.pid_exists(seen["pid"]) and time.monotonic() < end:
        time.sleep(0.05)
    assert not psutil.pid_exists(seen["pid"])
    with pytest.raises(EngineFailed, match="closed"):
        list(engine.complete("Good", options))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be run")
def test_what_it_says_before_it_ends_is_told(model: Path) -> None:
    with pytest.raises(EngineFailed, match=r"max_model_len \(13\) is too small"):
        open_engine(model, engine="vllm", context=13)


def test_adapters_and_drafts_become_its_arguments(tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text('{"r": 32}')
    request = SpeculationRequest("draft", tmp_path / "draft", 5)
    words = arguments(tmp_path, None, [lora], request)
    assert words[words.index("--lora-modules") + 1] == f"adapter={lora}"
    assert words[words.index("--max-lora-rank") + 1] == "32"
    guessing = json.loads(words[words.index("--speculative-config") + 1])
    assert guessing == {"model": str(tmp_path / "draft"), "num_speculative_tokens": 5}
    ngram = json.loads(arguments(tmp_path, None, [], SpeculationRequest("ngram"))[-1])
    assert ngram["method"] == "ngram" and ngram["num_speculative_tokens"] > 0
    assert "--speculative-config" not in arguments(tmp_path, None, [], SpeculationRequest())
    with pytest.raises(Unsupported, match="one LoRA"):
        arguments(tmp_path, None, [tmp_path], None)
    with pytest.raises(ReferenceNotFound, match="no file or folder"):
        arguments(tmp_path / "none", None, [], None)
    with pytest.raises(InvalidInput, match="needs a model"):
        arguments(None, None, [], None)


def test_without_vllm_the_command_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMIDGEN_VLLM")
    monkeypatch.setenv("PATH", str(model))
    with pytest.raises(MissingExtra, match="pip install vllm"):
        open_engine(model, engine="vllm")
    monkeypatch.setenv("SMIDGEN_VLLM", "no-such-program")
    with pytest.raises(ReferenceNotFound, match="no-such-program"):
        open_engine(model, engine="vllm")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be run")
def test_texts_are_continued_within_the_context_and_as_demanded(model: Path) -> None:
    with open_engine(model, engine="vllm", context=64) as engine:
        assert isinstance(engine, TextEngine)
        free = GenerationOptions(temperature=0, stop=("day",))
        *pieces, last = engine.write("<s>Hello", free, Demands(marks=("<think>",), biases={7: -1.0}))
        assert "".join(piece.text for piece in pieces) == "Good "
        assert (last.reason, last.stop_text) == ("stop", "day")
        assert engine.detokenize(engine.tokenize("<s>Hi")) == "<s>Hi" and engine.tokenize("") == [256]
        held = engine.write([256, 72], GenerationOptions(num_predict=99), Demands(grammar='root ::= "x"'))
        assert list(held)[-1].done
        with pytest.raises(InvalidInput, match="the context holds 64"):
            list(engine.write("x" * 64, free))
        with pytest.raises(EngineFailed, match="out of luck"):
            list(engine.write("fail", free))
        assert engine.alive()
        with pytest.raises(EngineFailed, match=r"broke off|did not answer|without its last part"):
            list(engine.write("die", free))
        end = time.monotonic() + 20
        while engine.alive() and time.monotonic() < end:
            time.sleep(0.02)
        assert not engine.alive()
    (_, asked), (_, other), *_ = told(model)["asked"]
    assert asked["prompt"] == [256, *b"Hello"] and asked["max_tokens"] == 64 - 6
    assert asked["skip_special_tokens"] is False and asked["logit_bias"] == {"7": -1.0}
    assert other["prompt"] == [256, 72] and other["max_tokens"] == 62
    assert other["structured_outputs"] == {"grammar": 'root ::= "x"'}


class Gateway(BaseHTTPRequestHandler):
    """Speaks OpenAI's protocol alone: what it does not know it answers with `status`, or with `body`."""

    status: ClassVar[int] = 404
    body: ClassVar[bytes] = b""
    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, request))
        known = self.path == "/v1/completions"
        piece = {"choices": [{"text": "Good day.", "finish_reason": "stop"}]}
        self.send_response(200 if known else self.status)
        self.end_headers()
        self.wfile.write(f"data: {json.dumps(piece)}\n\ndata: [DONE]\n\n".encode() if known else self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[str]:
    Gateway.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/model"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "body"), [(404, b"no"), (405, b""), (501, b"{}"), (200, b"{}")])
def test_a_gateway_that_knows_no_tokens_is_asked_for_text_alone(
    gateway: str, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    monkeypatch.setattr(Gateway, "status", status)
    monkeypatch.setattr(Gateway, "body", body)
    with open_engine(gateway, engine="vllm") as engine:
        assert isinstance(engine, Vllm)
        for prompt in ("Hello", [72, 105]):
            answer = engine.write(prompt, GenerationOptions(num_predict=3))
            assert "".join(piece.text for piece in answer) == "Good day."
        for ask in (lambda: engine.tokenize("x"), lambda: engine.detokenize([1])):
            with pytest.raises(Unsupported, match="cuts no texts into tokens"):
                ask()
    written = [request for path, request in Gateway.asked if path == "/v1/completions"]
    assert [request["prompt"] for request in written] == ["Hello", [72, 105]]
    assert status == 200 or [path for path, _ in Gateway.asked].count("/tokenize") == 1


def test_a_gateway_that_fails_over_tokens_is_said(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gateway, "status", 500)
    with open_engine(gateway, engine="vllm") as engine, pytest.raises(EngineFailed, match="answered 500"):
        assert isinstance(engine, Vllm)
        list(engine.write("Hello", GenerationOptions()))
