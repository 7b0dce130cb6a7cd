"""Ollama's API with the echo engine: every route, every field that is there or left out, every error's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Ask = Callable[..., httpx.Response]
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "Good day to you."}]}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


def chat(ask: Ask, content: str, **fields: Any) -> dict[str, Any]:
    asked = {"model": "echo", "messages": [{"role": "user", "content": content}], "stream": False, **fields}
    answer = ask("POST", "/api/chat", asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_stream_has_one_line_for_each_piece_and_the_figures_in_the_last(ask: Ask) -> None:
    *pieces, last = lines(ask("POST", "/api/generate", {"model": "echo", "prompt": "one two three"}))
    assert [piece["response"] for piece in pieces] == ["one", " two", " three"]
    for piece in pieces:
        assert list(piece) == ["model", "created_at", "response", "done"]
        assert (piece["model"], piece["done"]) == ("echo", False)
        assert TIME.fullmatch(piece["created_at"])
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (3, 3)
    assert last["total_duration"] >= last["load_duration"] > 0
    assert not {"prompt_eval_duration", "eval_duration", "context", "thinking", "logprobs"} & set(last)


def test_a_chat_streams_messages(ask: Ask) -> None:
    *pieces, last = lines(ask("POST", "/api/chat", CHAT))
    assert "".join(piece["message"]["content"] for piece in pieces) == "Good day to you."
    assert all(piece["message"] == {"role": "assistant", "content": piece["message"]["content"]} for piece in pieces)
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 4)


def test_without_a_stream_it_is_one_object(ask: Ask) -> None:
    answer = ask("POST", "/api/chat", CHAT | {"stream": False, "options": {"num_predict": 2}})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    whole = answer.json()
    assert (whole["message"]["content"], whole["done"], whole["done_reason"]) == ("Good day", True, "length")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
def test_the_content_type_does_not_matter(ask: Ask, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else None
    assert ask("POST", "/api/chat", CHAT, headers).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/api/generate", {}, "load"),
        ("/api/generate", {"prompt": "", "keep_alive": 0}, "unload"),
        ("/api/generate", {"keep_alive": "0s"}, "unload"),
        ("/api/chat", {}, "load"),
        ("/api/chat", {"messages": [], "keep_alive": "0"}, "unload"),
        ("/api/chat", {"messages": None, "keep_alive": -1}, "load"),
    ],
)
def test_nothing_to_answer_loads_or_unloads_with_one_object(
    ask: Ask, path: str, body: dict[str, Any], reason: str
) -> None:
    answer = ask("POST", path, {"model": "echo", **body})
    found = answer.json()
    assert (found["done"], found["done_reason"]) == (True, reason)
    assert set(found) == {"model", "created_at", "done", "done_reason", "message" if "chat" in path else "response"}


def test_what_is_thought_goes_to_its_own_field(ask: Ask) -> None:
    said = "<think>\nHm, hm.\n</think>\n\nIt is four."
    message = chat(ask, said)["message"]
    assert (message["thinking"], message["content"]) == ("Hm, hm.", "It is four.")
    assert chat(ask, said, think=False)["message"] == {"role": "assistant", "content": "It is four."}
    assert chat(ask, "No thought.", think="high")["message"]["content"] == "No thought."
    streamed = lines(ask("POST", "/api/generate", {"model": "echo", "prompt": said}))
    assert "".join(line.get("thinking", "") for line in streamed) == "Hm, hm."
    assert "".join(line["response"] for line in streamed) == "It is four."


def test_a_call_comes_whole_typed_and_with_an_id(ask: Ask) -> None:
    said = 'Let me look. <tool_call>\n{"name": "weather", "arguments": {"city": "Rome", "days": "3"}}\n</tool_call>'
    message = chat(ask, said, tools=[WEATHER])["message"]
    assert message["content"].strip() == "Let me look."
    call = message["tool_calls"][0]
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
    assert call["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Rome", "days": 3}}
    assert "tool_calls" not in chat(ask, said)["message"]
    body = {"model": "echo", "messages": [{"role": "user", "content": said}], "tools": [WEATHER]}
    calling = [line for line in lines(ask("POST", "/api/chat", body)) if "tool_calls" in line["message"]]
    assert [(line["done"], line["message"]["content"]) for line in calling] == [(False, "")]


def test_earlier_calls_and_their_results_are_taken(ask: Ask) -> None:
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]},
        {"role": "tool", "content": "Sunny.", "tool_name": "weather"},
        {"role": "USER", "content": "And?"},
    ]
    assert chat(ask, "", messages=messages, tools=[WEATHER])["message"]["content"] == "And?"


def test_old_turns_are_dropped_where_the_conversation_is_too_long(ask: Ask) -> None:
    turns = [{"role": "user", "content": f"turn {number} " + "word " * 20} for number in range(20)]
    asked = {"messages": [{"role": "system", "content": "Be brief."}, *turns, {"role": "user", "content": "last"}]}
    answer = chat(ask, "", **asked, options={"num_ctx": 64})
    assert answer["message"]["content"] == "last"
    assert 40 <= answer["prompt_eval_count"] < 64
    refused = ask("POST", "/api/chat", {"model": "echo", **asked, "options": {"num_ctx": 64}, "truncate": False})
    assert (refused.status_code, refused.json()) == (400, {"error": "the input length exceeds the context length"})


def test_options_that_are_not_known_change_nothing(ask: Ask) -> None:
    given = {"num_predict": 2, "unheard_of": 1, "mirostat": 2, "stop": "day", "num_ctx": 1}
    assert chat(ask, "good day", options=given)["message"]["content"] == "good "


def test_vectors_have_length_one_and_are_marked_where_a_decoder_made_them(ask: Ask) -> None:
    answer = ask("POST", "/api/embed", {"model": "echo", "input": ["a b c", "a", ""]})
    vectors = answer.json()["embeddings"]
    assert [round(sum(value**2 for value in vector), 6) for vector in vectors] == [1.0, 1.0, 0.0]
    assert {len(vector) for vector in vectors} == {64}
    assert answer.headers["x-smidgen-pooling"] == "mean"
    assert answer.json()["prompt_eval_count"] == 4
    short = ask("POST", "/api/embed", {"model": "echo", "input": "a b c", "dimensions": 40}).json()["embeddings"]
    assert [len(vector) for vector in short] == [40]
    assert round(sum(value**2 for value in short[0]), 6) == 1.0


def test_the_old_route_for_vectors_does_not_scale_them(ask: Ask) -> None:
    vector = ask("POST", "/api/embeddings", {"model": "echo", "prompt": "a a"}).json()["embedding"]
    assert sorted(vector)[-1] >= 1.0
    assert ask("POST", "/api/embeddings", {"model": "echo"}).json() == {"embedding": []}


@pytest.mark.parametrize("empty", [[], "", None])
def test_nothing_to_embed_gives_no_vectors(ask: Ask, empty: Any) -> None:
    assert ask("POST", "/api/embed", {"model": "echo", "input": empty}).json()["embeddings"] == []


def test_a_prompt_can_be_shown_instead_of_answered(ask: Ask) -> None:
    answer = ask("POST", "/api/chat", CHAT | {"_debug_render_only": True}).json()
    assert answer["_debug_info"] == {"rendered_template": "Good day to you.", "image_count": 0}


def test_what_is_loaded_and_what_is_stored(ask: Ask) -> None:
    assert ask("GET", "/api/tags").json() == {"models": []}
    assert ask("GET", "/api/ps").json() == {"models": []}
    assert ask("GET", "/api/status").json()["cloud"]["disabled"] is True
    shown = ask("POST", "/api/show", {"name": "Echo"}).json()
    assert "completion" in shown["capabilities"]
    assert shown["details"]["format"] == "gguf"


TWO_WORDS = {"model": "echo", "prompt": "one two"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/api/generate", b"", 400, "missing request body"),
        ("POST", "/api/generate", b"{", 400, "invalid JSON"),
        ("POST", "/api/generate", b'{"model": "\xff"}', 400, "invalid JSON"),
        ("POST", "/api/generate", b'{"options": {"temperature": NaN}}', 400, "invalid JSON"),
        ("POST", "/api/generate", b"[" * 10_000, 400, "invalid JSON"),
        ("POST", "/api/generate", b"[]", 400, "expected an object"),
        ("POST", "/api/generate", {}, 400, "model is required"),
        ("POST", "/api/generate", {"model": 7}, 400, "'model'"),
        ("POST", "/api/generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
        ("POST", "/api/generate", {"model": "../../etc/passwd", "prompt": "x"}, 404, "not found"),
        ("POST", "/api/generate", {**TWO_WORDS, "keep_alive": "soon"}, 400, "invalid duration"),
        ("POST", "/api/generate", {**TWO_WORDS, "think": "hard"}, 400, "think must be"),
        ("POST", "/api/generate", {**TWO_WORDS, "images": ["%"]}, 400, "not base64"),
        ("POST", "/api/generate", {**TWO_WORDS, "images": ["aGk="]}, 400, "does not support images"),
        ("POST", "/api/generate", {**TWO_WORDS, "raw": True, "system": "s"}, 400, "raw mode does not support"),
        ("POST", "/api/generate", {**TWO_WORDS, "top_logprobs": 21}, 400, "between 0 and 20"),
        ("POST", "/api/generate", {**TWO_WORDS, "format": "yaml"}, 400, 'invalid format: "yaml"; expected "json"'),
        ("POST", "/api/generate", {**TWO_WORDS, "format": {"type": "nothing"}}, 400, "invalid format"),
        ("POST", "/api/generate", {**TWO_WORDS, "options": {"top_k": "x"}}, 400, 'option "top_k" must be of type'),
        ("POST", "/api/generate", {**TWO_WORDS, "options": {"num_ctx": 1e300}}, 400, 'option "num_ctx" must be'),
        ("POST", "/api/generate", {**TWO_WORDS, "options": {"num_ctx": 1 << 40}}, 400, "at most"),
        ("POST", "/api/generate", {**TWO_WORDS, "options": {"temperature": -1}}, 400, "temperature"),
        ("POST", "/api/chat", {"model": "echo", "messages": "hi"}, 400, "'messages'"),
        ("POST", "/api/chat", {"model": "echo", "messages": [{"content": 5}]}, 400, "content"),
        ("POST", "/api/chat", {**CHAT, "tools": [{"type": "function"}]}, 400, "tools.0.function"),
        ("POST", "/api/embed", {"model": "echo", "input": 5}, 400, "invalid input type"),
        ("POST", "/api/embed", {"model": "echo", "input": ["a", 5]}, 400, "invalid input type"),
        ("POST", "/api/embed", {"model": "m", "input": "x"}, 404, 'model "m" not found, try pulling it first'),
        ("POST", "/api/show", {"model": "m"}, 404, "model 'm' not found"),
        ("POST", "/api/show", {"model": "smolm2:135m"}, 404, ". Did you mean 'smollm2:135m'?"),
        (
            "POST",
            "/api/embed",
            {"model": "smollm2:135", "input": "x"},
            404,
            "model \"smollm2:135\" not found, try pulling it first. Did you mean 'smollm2:135m'?",
        ),
        ("DELETE", "/api/delete", {"model": "m"}, 404, "model 'm' not found"),
        ("POST", "/api/copy", {"source": "m", "destination": "n"}, 404, 'model "m" not found'),
    ],
)
def test_errors_have_the_status_and_the_words_that_clients_look_for(
    ask: Ask, method: str, path: str, body: Any, status: int, error: str
) -> None:
    answer = ask(method, path, body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert error in answer.json()["error"]


def test_a_body_that_is_too_large_is_refused(ask: Ask) -> None:
    answer = ask("POST", "/api/generate", {"model": "echo", "prompt": "x" * 2000}, max_body=1000)
    assert (answer.status_code, "larger than 1000 bytes" in answer.json()["error"]) == (413, True)
    assert ask("POST", "/api/embed", {"model": "echo", "input": ["x"] * 3}, max_texts=2).status_code == 413
