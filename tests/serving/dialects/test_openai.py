"""OpenAI's API with the echo engine: every route, every field, every refusal."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Ask = Callable[..., httpx.Response]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}


def post(ask: Ask, path: str, body: dict[str, Any], **settings: Any) -> Any:
    answer = ask("POST", path, body, **settings)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    return answer.json()


def chat(ask: Ask, content: Any, **fields: Any) -> Any:
    return post(ask, "/v1/chat/completions", said(content, **fields))


def complete(ask: Ask, **fields: Any) -> Any:
    return post(ask, "/v1/completions", {"model": "echo", **fields})


def events(ask: Ask, path: str, body: dict[str, Any], **settings: Any) -> list[Any]:
    answer = ask("POST", path, body | {"stream": True}, **settings)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    *parts, nothing = answer.text.split("\n\n")
    assert nothing == "" and all(part.startswith("data: ") for part in parts)
    assert parts.pop() == "data: [DONE]"
    return [json.loads(part[6:]) for part in parts]


def refused(ask: Ask, path: str, body: Any, status: int = 400) -> str:
    answer = ask("POST", path, body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    assert (error["type"], error["param"], error["code"]) == (kind, None, None)
    return str(error["message"])


def test_a_chat_is_answered_whole(ask: Ask) -> None:
    made = chat(ask, "Good day to you.")
    assert made["object"] == "chat.completion" and made["id"].startswith("chatcmpl-")
    assert (made["model"], made["system_fingerprint"]) == ("echo", "fp_ollama")
    [choice] = made["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "Good day to you."},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert made["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


def test_a_chat_is_streamed(ask: Ask) -> None:
    *pieces, last = events(ask, "/v1/chat/completions", said("one two three"))
    assert [piece["choices"][0]["delta"] for piece in pieces] == [
        {"role": "assistant", "content": "one"},
        {"content": " two"},
        {"content": " three"},
    ]
    assert all(piece["choices"][0]["finish_reason"] is None and "usage" not in piece for piece in pieces)
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert {(piece["id"], piece["created"], piece["object"]) for piece in [*pieces, last]} == {
        (last["id"], last["created"], "chat.completion.chunk")
    }


def test_usage_ends_a_stream_that_asks_for_it(ask: Ask) -> None:
    body = said("one two", stream_options={"include_usage": True})
    *pieces, usage = events(ask, "/v1/chat/completions", body)
    assert all(piece["usage"] is None for piece in pieces)
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


def test_an_empty_answer_has_a_role_all_the_same(ask: Ask) -> None:
    first, last = events(ask, "/v1/chat/completions", said("x", stop="x"))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_is_kept(ask: Ask, field: str) -> None:
    [choice] = chat(ask, "one two three", **{field: 2})["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")


@pytest.mark.parametrize("stop", ["three", ["three", "four"]])
def test_stop_texts_end_the_answer(ask: Ask, stop: Any) -> None:
    assert chat(ask, "one two three", stop=stop)["choices"][0]["message"]["content"] == "one two "


def test_several_answers_are_made(ask: Ask) -> None:
    made = chat(ask, "one two", n=3)
    assert [choice["index"] for choice in made["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in made["choices"]} == {"one two"}
    assert made["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}
    parts = events(ask, "/v1/chat/completions", said("one two", n=2), slots=2)
    for index in (0, 1):
        own = [part["choices"][0] for part in parts if part["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant" and own[-1]["finish_reason"] == "stop"
        assert "".join(choice["delta"].get("content", "") for choice in own) == "one two"


def test_more_answers_than_slots_do_not_fill_the_queue(ask: Ask) -> None:
    assert len(post(ask, "/v1/chat/completions", said("x", n=20), max_queue=1)["choices"]) == 20


def test_thinking_is_told_apart(ask: Ask) -> None:
    message = chat(ask, "<think>Hm.</think>Yes.")["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Yes.", "reasoning": "Hm."}
    first, second, _ = events(ask, "/v1/chat/completions", said("<think>Hm.</think>Yes."))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning": "Hm."}
    assert second["choices"][0]["delta"] == {"content": "Yes."}


@pytest.mark.parametrize("effort", [{"reasoning_effort": "none"}, {"reasoning": {"effort": "none"}}])
def test_thinking_is_switched_off(ask: Ask, effort: dict[str, Any]) -> None:
    assert "reasoning" not in chat(ask, "<think>Hm.</think>Yes.", **effort)["choices"][0]["message"]


def test_calls_have_their_arguments_as_text(ask: Ask) -> None:
    asked = '{"name": "weather", "arguments": {"city": "Ulm", "days": "3"}}'
    [choice] = chat(ask, asked, tools=[WEATHER])["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert (call["type"], call["index"], call["function"]["name"]) == ("function", 0, "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Ulm", "days": 3}
    first, last = events(ask, "/v1/chat/completions", said(asked, tools=[WEATHER]))
    assert first["choices"][0]["delta"]["tool_calls"][0]["function"] == call["function"]
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_the_choice_of_tools_is_kept(ask: Ask) -> None:
    asked = '{"name": "weather", "arguments": {}}'
    assert chat(ask, asked, tools=[WEATHER], tool_choice="none")["choices"][0]["message"]["content"] == asked
    one = {"type": "function", "function": {"name": "weather"}}
    assert chat(ask, asked, tools=[WEATHER], tool_choice=one)["choices"][0]["message"]["tool_calls"]
    other = {"type": "function", "function": {"name": "wind"}}
    assert "wind" in refused(ask, "/v1/chat/completions", said("x", tools=[WEATHER], tool_choice=other))


def test_a_whole_conversation_is_understood(ask: Ask) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": " in Ulm?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    made = post(ask, "/v1/chat/completions", {"model": "echo", "messages": messages, "tools": [WEATHER]})
    assert made["choices"][0]["message"]["content"] == "Rain."


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"messages": [{"role": "user", "content": 3}]}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input_audio"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}]},
            "data:",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:,%"}]}]}, "base64"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": PIXEL}]}]}, "images"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]}, "JSON"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"response_format": {"type": "xml"}}, "response format"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "schema"),
        ({"reasoning_effort": "immense"}, "effort"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 5000}, "at most"),
        ({"model": ""}, "model"),
    ],
)
def test_what_a_chat_cannot_be_is_refused(ask: Ask, fields: dict[str, Any], reason: str) -> None:
    assert reason in refused(ask, "/v1/chat/completions", said("x") | fields)


def test_a_missing_model_is_not_found(ask: Ask) -> None:
    missing = said("x") | {"model": "no/such"}
    assert refused(ask, "/v1/chat/completions", missing, 404) == "model 'no/such' not found"
    assert refused(ask, "/v1/chat/completions", missing | {"stream": True}, 404) == "model 'no/such' not found"
    assert refused(ask, "/v1/embeddings", {"model": "none", "input": "x"}, 404)


def test_formats_are_passed_on(ask: Ask) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    for wanted in ({"type": "text"}, {"type": "json_object"}, schema):
        assert chat(ask, "x", response_format=wanted)["choices"][0]["message"]["content"] == "x"
    broken = {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}
    assert "invalid format" in refused(ask, "/v1/chat/completions", said("x", response_format=broken))


def test_a_prompt_is_continued_as_it_stands(ask: Ask) -> None:
    made = complete(ask, prompt="one two")
    assert made["object"] == "text_completion" and made["id"].startswith("cmpl-")
    assert made["choices"] == [{"index": 0, "text": "one two", "logprobs": None, "finish_reason": "stop"}]
    parts = events(ask, "/v1/completions", {"model": "echo", "prompt": "one two"})
    assert [part["choices"][0]["text"] for part in parts] == ["one", " two", ""]
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None, None, "stop"]


def test_every_prompt_of_a_list_is_continued(ask: Ask) -> None:
    made = complete(ask, prompt=["a", "b c"], n=2)
    assert [(choice["index"], choice["text"]) for choice in made["choices"]] == [
        (0, "a"),
        (1, "a"),
        (2, "b c"),
        (3, "b c"),
    ]
    assert made["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}


@pytest.mark.parametrize("limit", [0, 1])
def test_a_prompt_is_scored(ask: Ask, limit: int) -> None:
    made = complete(ask, prompt="é two three", echo=True, logprobs=1, max_tokens=limit, temperature=0)
    [choice] = made["choices"]
    more = ["é"][:limit]
    assert choice["text"] == "é two three" + "".join(more) and choice["finish_reason"] == "length"
    assert choice["logprobs"] == {
        "tokens": ["é", " two", " three", *more],
        "token_logprobs": [None, 0.0, 0.0, *(0.0 for _ in more)],
        "top_logprobs": [None, {" two": 0.0}, {" three": 0.0}, *({word: 0.0} for word in more)],
        "text_offset": [0, 1, 5, 11][: 3 + limit],
    }
    assert made["usage"] == {"prompt_tokens": 3, "completion_tokens": limit, "total_tokens": 3 + limit}


def test_a_scored_prompt_is_streamed(ask: Ask) -> None:
    body = {"model": "echo", "prompt": "a b", "echo": True, "logprobs": 0, "max_tokens": 2}
    parts = [part["choices"][0] for part in events(ask, "/v1/completions", body)]
    assert "".join(part["text"] for part in parts) == "a ba b"
    assert parts[0]["logprobs"] == {
        "tokens": ["a", " b"],
        "token_logprobs": [None, 0.0],
        "top_logprobs": None,
        "text_offset": [0, 1],
    }


def test_an_echo_without_scores_stands_before_the_answer(ask: Ask) -> None:
    assert complete(ask, prompt="a b", echo=True)["choices"][0]["text"] == "a ba b"
    [choice] = complete(ask, prompt="a b", echo=True, max_tokens=0)["choices"]
    assert (choice["text"], choice["logprobs"], choice["finish_reason"]) == ("a b", None, "length")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"best_of": 3, "n": 2}, "best_of 3 is not supported"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 7]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [1, 2]}, "tokens"),
        ({"prompt": [[1], [2]], "echo": True, "logprobs": 1}, "tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"prompt": ["a"] * 3000}, "at most 2048"),
    ],
)
def test_what_a_completion_cannot_be_is_refused(ask: Ask, fields: dict[str, Any], reason: str) -> None:
    assert reason in refused(ask, "/v1/completions", {"model": "echo", "prompt": "x"} | fields)


def test_as_many_answers_as_are_looked_at_need_no_choice(ask: Ask) -> None:
    assert len(complete(ask, prompt="a", best_of=2, n=2)["choices"]) == 2


def test_vectors_come_as_numbers_or_as_base64(ask: Ask) -> None:
    texts = ["red apple", "green apple"]
    made = post(ask, "/v1/embeddings", {"model": "echo", "input": texts, "dimensions": 32})
    assert (made["object"], made["model"]) == ("list", "echo")
    assert made["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    packed = post(
        ask, "/v1/embeddings", {"model": "echo", "input": texts, "dimensions": 32, "encoding_format": "base64"}
    )
    for index, (numbers, text) in enumerate(zip(made["data"], packed["data"], strict=True)):
        assert (numbers["object"], numbers["index"], len(numbers["embedding"])) == ("embedding", index, 32)
        unpacked = struct.unpack("<32f", base64.b64decode(text["embedding"]))
        assert unpacked == pytest.approx(numbers["embedding"], abs=1e-7)


@pytest.mark.parametrize("given", [None, [], 3, ["a", 3], [1, 2], [[1, 2]], [None]])
def test_what_cannot_become_vectors_is_refused(ask: Ask, given: Any) -> None:
    assert refused(ask, "/v1/embeddings", {"model": "echo", "input": given})


def test_models_are_named(ask: Ask) -> None:
    assert ask("GET", "/v1/models").json() == {"object": "list", "data": []}
    one = {"id": "echo:latest", "object": "model", "created": 0, "owned_by": "library"}
    assert ask("GET", "/v1/models/echo").json() == one
    missing = ask("GET", "/v1/models/some/one:x")
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == "model 'some/one:x' not found"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": "echo", "messages": NaN}'])
def test_bad_bodies_are_refused(ask: Ask, body: bytes) -> None:
    for path in ("chat/completions", "completions", "embeddings"):
        assert refused(ask, f"/v1/{path}", body)
