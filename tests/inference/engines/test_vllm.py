"""The engine vllm against a program of the same manners: its arguments, its answers, and how it begins and ends."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from smidgen.errors import EngineFailed, InvalidInput, MissingExtra, ReferenceNotFound, Unsupported
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.engines.vllm import Vllm, arguments
from smidgen.inference.options import GenerationOptions
from smidgen.inference.speculation import SpeculationRequest

PROGRAM = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

words, told = sys.argv[1:], {told!r}
port = int(words[words.index("--port") + 1])
if "--max-model-len" in words and words[words.index("--max-model-len") + 1] == "13":
    sys.exit("error: max_model_len (13) is too small")
seen = {{"words": words, "pid": os.getpid(), "asked": []}}
asked_for_health = 0

def event(**choice):
    chunk = {{"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "model"}}
    chunk["choices"] = [{{"index": 0, "logprobs": None, "finish_reason": None, "stop_reason": None, **choice}}]
    return chunk

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, body, status=200, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        global asked_for_health
        if self.path == "/health":
            asked_for_health += 1
            return self.answer(b"", 200 if asked_for_health > 1 else 503)
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            return self.answer(b'{{"error":"Unauthorized"}}', 401)
        listed = [{{"id": name, "object": "model", "owned_by": "vllm"}} for name in ("model", "adapter")]
        self.answer(json.dumps({{"object": "list", "data": listed}}).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen["asked"].append([self.path, asked])
        with open(told, "w") as file:
            json.dump(seen, file)
        chat = "chat" in self.path
        events = [event(**({{"delta": {{"role": "assistant", "content": ""}}}} if chat else {{"text": ""}}))]
        for piece in ("Good", " day", "."):
            events.append(event(**({{"delta": {{"content": piece}}}} if chat else {{"text": piece}})))
        events[-1]["choices"][0]["finish_reason"] = "length"
        usage = {{"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3}}
        events.append({{**event(), "choices": [], "usage": usage}})
        lines = [f"data: {{json.dumps(each)}}\\n\\n" for each in events] + ["data: [DONE]\\n\\n"]
        self.answer("".join(lines).encode(), kind="text/event-stream")

ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that vLLM is to serve, and a vllm program on the path."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, told=str(tmp_path / "told.json")))
    program.chmod(0o755)
    monkeypatch.setenv("SMIDGEN_VLLM", str(program))
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
        engine.hold_to({"type": "object"})
        assert "".join(piece.text for piece in engine.complete("Good", options)) == "Good day."
        assert engine.resident_bytes() > 0 and engine.load_seconds > 0
        seen = told(model)
    words = seen["words"]
    assert words[:4] == ["serve", str(model), "--served-model-name", "model"]
    assert words[words.index("--max-model-len") + 1] == "512"
    (chat, asked), (completions, held) = seen["asked"]
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
