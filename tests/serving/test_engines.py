"""Servers whose models run in torch, packed as they lie, and in vLLM: they stream, stop, unload and fail alike."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from smidgen import formats
from smidgen.errors import Unsupported
from smidgen.export import packed
from smidgen.inference.engine import open_engine
from smidgen.inference.options import GenerationOptions
from smidgen.models.model import PackedTensor
from smidgen.models.modelfile import Modelfile
from smidgen.models.sources import from_store
from smidgen.models.store import Store
from smidgen.recipe.create import Creation, create

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}<|im_start|>"
HI = [{"role": "user", "content": "usage: parser"}]
GREEDY = {"temperature": 0, "num_predict": 8}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"]}
TOOL = {"type": "function", "function": {"name": "add", "parameters": NUMBER}}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a script that can be run")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model whose matrices stay packed in 3 bits of smidgen's own."""
    model = build_model(eos_token_id=399, max_position_embeddings=1024)
    model.tokenizer.chat_template = TEMPLATE
    kept, number_format = {}, formats.find("kmeans:bits=3")
    for key in model.anatomy.matrices():
        weight = model.weight(key)
        kept[key] = PackedTensor("kmeans:bits=3", number_format.quantize(weight.detach()), tuple(weight.shape))
    folder = tmp_path_factory.mktemp("packed") / "tiny"
    packed.write(replace(model, packed=kept), folder, dtype="float32")
    found: Path = tmp_path_factory.mktemp("home")
    stored = create(Creation("tiny", Modelfile(source=str(folder))), Store(found))
    assert "packed.safetensors" in stored.paths and "model.gguf" not in stored.paths
    with pytest.raises(Unsupported, match="takes no draft"):
        create(Creation("other", Modelfile(source=str(folder), draft=str(folder))), Store(found))
    again = create(Creation("tiny", Modelfile(source="tiny")), Store(found))
    assert again.digests["packed.safetensors"] == stored.digests["packed.safetensors"]
    return found


@pytest.fixture(scope="module")
def torch_server(home: Path, start_server: Callable[..., Any]) -> Iterator[Any]:
    server = start_server(home, "--engine", "torch", "--threads", "1")
    yield server
    assert server.stop() == (0, "")


@pytest.fixture
def vllm_server(home: Path, start_server: Callable[..., Any], vllm_program: Path) -> Iterator[Any]:
    server = start_server(home, "--engine", "vllm", "--parallel", "2")
    yield server
    assert server.stop() == (0, "")


def chat(server: Any, **fields: Any) -> Any:
    body = {"model": "tiny", "messages": HI, "stream": False, "options": GREEDY, **fields}
    return server.client.post("/api/chat", json=body)


def streamed(server: Any, **fields: Any) -> list[Any]:
    return [json.loads(line) for line in chat(server, stream=True, **fields).text.splitlines()]


def loaded(server: Any) -> list[str]:
    return [model["name"] for model in server.client.get("/api/ps").json()["models"]]


def leave_in_the_middle(server: Any) -> None:
    """Begin a long answer, leave, and wait until its slot is free."""
    endless = {"model": "tiny", "prompt": "long", "options": {"temperature": 0, "num_ctx": 8192}}
    with server.client.stream("POST", "/api/generate", json=endless) as answer:
        next(answer.iter_lines())
        assert server.figure("smidgen_active_requests") == 1
    end = time.monotonic() + 20
    while server.figure("smidgen_active_requests") and time.monotonic() < end:
        time.sleep(0.02)
    assert server.figure("smidgen_active_requests") == 0


def test_torch_answers_as_the_engine_does(torch_server: Any, home: Path) -> None:
    whole = chat(torch_server).json()
    text = "<|im_start|>user\nusage: parser<|im_end|><|im_start|>"
    with open_engine(from_store(Store(home).resolve("tiny")).path, engine="torch", threads=1) as engine:
        expected = "".join(chunk.text for chunk in engine.complete(text, GenerationOptions(**GREEDY)))
    assert whole["message"]["content"] == expected
    pieces = streamed(torch_server)
    assert "".join(piece["message"]["content"] for piece in pieces) == expected and len(pieces) > 2
    assert (pieces[-1]["eval_count"], pieces[-1]["done_reason"]) == (8, "length")
    assert pieces[-1]["prompt_eval_count"] == whole["prompt_eval_count"] > 3


def test_torch_keeps_to_stops_schemas_tools_and_bounds(torch_server: Any) -> None:
    said = chat(torch_server).json()["message"]["content"]
    stop = said[3:5]
    cut = chat(torch_server, options=GREEDY | {"stop": [stop]}).json()
    assert cut["message"]["content"] == said[: said.index(stop)] and cut["done_reason"] == "stop"
    held = chat(torch_server, format=NUMBER, options=GREEDY | {"num_predict": 60}).json()["message"]["content"]
    assert set(json.loads(held)) == {"n"}
    asked = {"model": "tiny", "messages": HI, "tools": [TOOL], "tool_choice": "required", "max_tokens": 200}
    (choice,) = torch_server.client.post("/v1/chat/completions", json=asked).json()["choices"]
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "add"
    refused = torch_server.client.post("/v1/chat/completions", json=asked | {"logprobs": True, "tools": []})
    assert refused.status_code == 400
    small = {"model": "tiny", "prompt": "x " * 400, "truncate": False, "raw": True, "stream": False}
    refused = torch_server.client.post("/api/generate", json=small | {"options": {"num_ctx": 32}})
    assert (refused.status_code, "exceeds the context" in refused.text) == (400, True), refused.text
    refused = torch_server.client.post("/api/generate", json=small | {"suffix": "y"})
    assert (refused.status_code, "does not support insert" in refused.text) == (400, True)


def test_torch_gives_vectors_and_scores(torch_server: Any) -> None:
    made = torch_server.client.post("/api/embed", json={"model": "tiny", "input": ["usage", "parser"]})
    vectors = made.json()["embeddings"]
    assert [len(vector) for vector in vectors] == [64, 64] and vectors[0] != vectors[1]
    asked = {"model": "tiny", "prompt": "usage: parser", "echo": True, "logprobs": 1, "max_tokens": 0}
    scored = torch_server.client.post("/v1/completions", json=asked).json()["choices"][0]["logprobs"]
    assert "".join(scored["tokens"]) == "usage: parser" and scored["token_logprobs"][-1] < 0


def test_torch_frees_what_is_left_and_unloads(torch_server: Any) -> None:
    leave_in_the_middle(torch_server)
    assert loaded(torch_server) == ["tiny:latest"]
    details = torch_server.client.get("/api/tags").json()["models"][0]["details"]
    assert (details["quantization_level"], details["format"]) == ("kmeans:bits=3", "safetensors")
    body = {"model": "tiny", "messages": [], "keep_alive": 0}
    assert torch_server.client.post("/api/chat", json=body).json()["done_reason"] == "unload"
    assert loaded(torch_server) == []
    assert chat(torch_server).status_code == 200


def test_vllm_answers_stops_and_holds(vllm_server: Any) -> None:
    pieces = streamed(vllm_server)
    assert [piece["message"]["content"] for piece in pieces] == ["Good", " day", ".", ""]
    cut = chat(vllm_server, options=GREEDY | {"stop": ["day"]}).json()
    assert (cut["message"]["content"], cut["done_reason"]) == ("Good ", "stop")
    assert json.loads(chat(vllm_server, format=NUMBER).json()["message"]["content"]) == {"a": 1}
    seen = json.loads(Path(os.environ["STANDIN_TOLD"]).read_text())
    prompt = "".join("<s>" if token == 256 else chr(token) for token in seen["asked"][0][1]["prompt"])
    assert prompt == "<s><|im_start|>user\nusage: parser<|im_end|><|im_start|>"
    leave_in_the_middle(vllm_server)
    refused = vllm_server.client.post("/api/embed", json={"model": "tiny", "input": "x"})
    assert (refused.status_code, "no embeddings" in refused.text) == (400, True)


def test_vllm_fails_in_words_is_begun_anew_and_unloaded(vllm_server: Any) -> None:
    def say(prompt: str) -> Any:
        asked = {"model": "tiny", "prompt": prompt, "raw": True, "stream": False, "options": {"num_predict": 3}}
        return vllm_server.client.post("/api/generate", json=asked)

    def pid() -> int:
        return int(json.loads(Path(os.environ["STANDIN_TOLD"]).read_text())["pid"])

    assert say("hello").json()["response"] == "Good day."
    first = pid()
    failed = say("fail")
    assert (failed.status_code, "out of luck" in failed.text) == (500, True)
    assert say("hello").status_code == 200 and pid() == first
    assert say("die").status_code == 500
    assert say("hello").json()["response"] == "Good day." and pid() != first
    second = pid()
    os.kill(second, signal.SIGKILL)
    end = time.monotonic() + 20
    while say("hello").status_code != 200 and time.monotonic() < end:
        time.sleep(0.05)
    third = pid()
    assert third != second
    vllm_server.client.post("/api/generate", json={"model": "tiny", "keep_alive": 0})
    while psutil.pid_exists(third) and time.monotonic() < end:
        time.sleep(0.05)
    assert loaded(vllm_server) == [] and not psutil.pid_exists(third)
