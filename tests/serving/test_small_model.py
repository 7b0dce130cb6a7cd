"""The small model behind a real port: Ollama's own client, clients that leave, an engine that is killed."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import psutil
import pytest

from smidgen.models.store import Store

pytestmark = pytest.mark.index
MODEL = "small:135m"
GREEDY = {"temperature": 0, "num_predict": 4}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
}


@pytest.fixture(scope="module")
def running(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory, start_server: Any) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("home")
    Store(home).add(MODEL, {"model.gguf": smollm2_gguf.resolve()}, {"license": ["Apache-2.0"]}, link=True)
    server = start_server(home, "--threads", "1", OLLAMA_CONTEXT_LENGTH="512", OLLAMA_NUM_PARALLEL="2")
    yield server
    code, errors = server.stop()
    assert (code, errors) == (0, "")


@pytest.fixture(scope="module")
def client(running: Any) -> Iterator[ollama.Client]:
    with ollama.Client(running.address) as opened:
        yield opened


def engines(running: Any) -> list[psutil.Process]:
    return [
        each for each in psutil.Process(running.process.pid).children() if "_llama_cpp_child" in str(each.cmdline())
    ]


def test_ollamas_client_lists_and_shows(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert (listed.model, listed.details.quantization_level, listed.details.family) == (MODEL, "Q4_1", "llama")
    shown = client.show(MODEL)
    assert shown.capabilities == ["completion"]
    assert shown.details is not None and shown.details.parameter_size == "134.52M"
    assert shown.modelinfo is not None and shown.modelinfo["llama.context_length"] == 8192


def test_ollamas_client_chats_and_streams(client: ollama.Client) -> None:
    whole = client.chat(MODEL, QUESTION, options=GREEDY)
    pieces = list(client.chat(MODEL, QUESTION, options=GREEDY, stream=True))
    assert whole.message.content
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert (whole.done_reason, whole.eval_count) == ("length", 4)
    assert pieces[-1].done and not any(piece.done for piece in pieces[:-1])
    assert client.ps().models[0].context_length == 512


def test_ollamas_client_continues_texts(client: ollama.Client) -> None:
    answer = client.generate(MODEL, "The capital of France is", raw=True, options=GREEDY)
    assert answer.response.startswith(" Paris")
    assert answer.context is None
    first = client.generate(MODEL, "Say cheese.", options=GREEDY)
    second = client.generate(MODEL, "Again!", context=first.context, options=GREEDY)
    assert first.context is not None and second.context is not None
    assert list(second.context[: len(first.context)]) == list(first.context)
    assert second.prompt_eval_count is not None and second.prompt_eval_count > len(first.context)


def test_the_likeliest_tokens_are_told(client: ollama.Client) -> None:
    answer = client.generate(MODEL, "The capital of France is", raw=True, options=GREEDY, logprobs=True, top_logprobs=2)
    assert answer.logprobs is not None and len(answer.logprobs) == 4
    first = answer.logprobs[0]
    assert (first.token, len(first.top_logprobs or ())) == (" Paris", 2)
    assert -1.0 < first.logprob < 0.0


def test_an_answer_keeps_to_its_schema(client: ollama.Client) -> None:
    answer = client.chat(MODEL, QUESTION, format=PERSON, options={"temperature": 0, "num_predict": 60})
    person = json.loads(answer.message.content or "")
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int) and isinstance(person["name"], str)


def test_vectors_of_like_texts_are_near_each_other(client: ollama.Client) -> None:
    texts = ["The cat sleeps on the sofa.", "A cat is asleep on a couch.", "Taxes rise in March.", "x " * 2000]
    found = client.embed(MODEL, texts[:3]).embeddings
    near, far = (sum(a * b for a, b in zip(found[0], other, strict=True)) for other in found[1:])
    assert near > far
    assert sum(value * value for value in found[0]) == pytest.approx(1.0)
    assert len(client.embed(MODEL, texts[0], dimensions=16).embeddings[0]) == 16
    with pytest.raises(ollama.ResponseError, match="the input length exceeds the context length"):
        client.embed(MODEL, texts[3], truncate=False)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"model": "none"}, 404, "model 'none' not found"),
        ({"model": MODEL, "think": True}, 400, f'"{MODEL}" does not support thinking'),
        ({"model": MODEL, "tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "does not support tools"),
        ({"model": MODEL, "messages": [{"role": "user", "images": ["aGk="]}]}, 400, "does not support images"),
    ],
)
def test_ollamas_client_gets_its_errors(client: ollama.Client, asked: dict[str, Any], status: int, words: str) -> None:
    with pytest.raises(ollama.ResponseError) as error:
        client.chat(**({"messages": QUESTION} | asked))
    assert error.value.status_code == status
    assert words in error.value.error


FUNCTION = {"name": "note", "parameters": PERSON}
TOOL = {"type": "function", "function": FUNCTION}


@pytest.mark.parametrize(
    ("route", "asked"),
    [
        ("/api/chat", {"tools": [TOOL], "tool_choice": "required", "options": {"num_predict": 60}, "stream": False}),
        ("/v1/chat/completions", {"tools": [TOOL, {**TOOL, "function": {"name": "other"}}], "tool_choice": {
            "type": "function", "function": {"name": "note"}}}),
        ("/v1/messages", {"tools": [{"name": "note", "input_schema": PERSON}], "tool_choice": {"type": "any"}}),
        ("/v1/responses", {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"}),
    ],
)  # fmt: skip
def test_a_call_can_be_demanded_of_a_model_without_tools(running: Any, route: str, asked: dict[str, Any]) -> None:
    question = [{"role": "user", "content": "Note that Ann is 30 years old."}]
    body = {"model": MODEL, "max_tokens": 60, "messages": question, "input": question, "temperature": 0, **asked}
    answer = running.client.post(route, json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    if route == "/api/chat":
        call = found["message"]["tool_calls"][0]["function"]
        name, arguments = call["name"], call["arguments"]
    elif route == "/v1/messages":
        (block,) = found["content"]
        assert found["stop_reason"] == "tool_use"
        name, arguments = block["name"], block["input"]
    else:
        call = found["output"][0] if "output" in found else found["choices"][0]["message"]["tool_calls"][0]["function"]
        name, arguments = call["name"], json.loads(call["arguments"])
    assert name == "note" and set(arguments) == {"name", "age"} and 0 <= arguments["age"] <= 99


def test_copies_are_made_and_deleted(client: ollama.Client) -> None:
    client.copy(MODEL, "copied")
    assert {model.model for model in client.list().models} == {MODEL, "copied:latest"}
    client.delete("Copied")
    assert [model.model for model in client.list().models] == [MODEL]
    with pytest.raises(ollama.ResponseError, match="is invalid"):
        client.copy(MODEL, "../copied")


def test_a_client_that_leaves_frees_its_slot(running: Any, client: ollama.Client) -> None:
    endless = client.generate(MODEL, "Count up: 1, 2, 3,", raw=True, stream=True, options={"num_predict": 4000})
    next(endless)
    assert running.figure("smidgen_active_requests") == 1
    endless.close()
    began = time.monotonic()
    while running.figure("smidgen_active_requests"):
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    took = time.monotonic() - began
    time.sleep(1)  # the engine looks once a second whether somebody still listens
    before = sum(sum(engine.cpu_times()[:2]) for engine in engines(running))
    time.sleep(2)
    spent = sum(sum(engine.cpu_times()[:2]) for engine in engines(running)) - before
    assert took < 5
    assert spent < 0.3, "the engine goes on writing for nobody"


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_a_killed_engine_fails_its_own_requests_and_comes_back(running: Any, client: ollama.Client) -> None:
    client.generate(MODEL)
    stream = client.generate(MODEL, "Once upon a time", raw=True, stream=True, options={"num_predict": 4000})
    next(stream)
    others: list[str] = []

    def ask_another() -> None:
        others.append(client.generate("echo", "still here").response)

    asking = threading.Thread(target=ask_another)
    asking.start()
    for engine in engines(running):
        engine.kill()
    with pytest.raises(ollama.ResponseError, match=r"ended by signal 9|broke off"):
        list(stream)
    asking.join()
    assert others == ["still here"]
    assert client.generate(MODEL, "The capital of France is", raw=True, options=GREEDY).response.startswith(" Paris")
