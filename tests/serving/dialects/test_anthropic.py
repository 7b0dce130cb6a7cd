"""Anthropic's Messages with the echo engine: blocks, events in their order, tokens, errors in its form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import pytest

Ask = Callable[..., httpx.Response]
TOOL = {"name": "add", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CALL = '{"name": "add", "arguments": {"a": "1"}}'
THINK = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=address, api_key="any", max_retries=0) as made:
        yield made


def body(content: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "max_tokens": 64, "messages": [{"role": "user", "content": content}], **fields}


def write(ask: Ask, content: Any, **fields: Any) -> Any:
    answer = ask("POST", "/v1/messages", body(content, **fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(ask: Ask, content: Any, **fields: Any) -> list[Any]:
    answer = ask("POST", "/v1/messages", body(content, stream=True, **fields))
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for part in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_message_is_answered(ask: Ask) -> None:
    made = write(ask, "Good day.", system="Be kind.")
    assert (made["type"], made["role"], made["model"]) == ("message", "assistant", "echo")
    assert made["content"] == [{"type": "text", "text": "Good day."}]
    assert (made["stop_reason"], made["stop_sequence"]) == ("end_turn", None)
    assert (made["usage"]["input_tokens"], made["usage"]["output_tokens"]) == (4, 2)


def test_a_stream_tells_how_the_message_comes_to_be(ask: Ask) -> None:
    found = events(ask, "<think>Hm.</think>Good day.", thinking=THINK)
    assert [event["type"] for event in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0]["message"]["content"] == [] and found[0]["message"]["stop_reason"] is None
    assert found[1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert found[2]["delta"] == {"type": "thinking_delta", "thinking": "Hm."}
    assert [event["index"] for event in found if "index" in event] == [0, 0, 0, 1, 1, 1, 1]
    assert "".join(event["delta"]["text"] for event in found[5:7]) == "Good day."
    assert found[8]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert found[8]["usage"]["output_tokens"] == 2


def test_thinking_is_shown_only_where_it_is_asked_for(ask: Ask) -> None:
    assert write(ask, "<think>Hm.</think>Yes.")["content"] == [{"type": "text", "text": "Yes."}]
    thought, said = write(ask, "<think>Hm.</think>Yes.", thinking=THINK)["content"]
    assert (thought["thinking"], said["text"]) == ("Hm.", "Yes.")


def test_tools_are_called(ask: Ask) -> None:
    made = write(ask, CALL, tools=[TOOL])
    [block] = made["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "add", {"a": 1})
    assert block["id"].startswith("toolu_") and made["stop_reason"] == "tool_use"
    found = events(ask, CALL, tools=[TOOL], tool_choice={"type": "tool", "name": "add"})
    assert found[1]["content_block"]["input"] == {}
    assert json.loads(found[2]["delta"]["partial_json"]) == {"a": 1}
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    assert write(ask, CALL, tools=[TOOL], tool_choice={"type": "none"})["content"][0]["text"] == CALL


def test_blocks_make_a_conversation(ask: Ask) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Add."}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "I add."},
                {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "It is 2."}]},
    ]
    asked = body("x", tools=[TOOL], system=[{"type": "text", "text": "Be brief."}]) | {"messages": messages}
    made = ask("POST", "/v1/messages", asked).json()
    assert made["content"] == [{"type": "text", "text": "It is 2."}]
    paper = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Paper."}}
    assert write(ask, [paper, {"type": "text", "text": "Sum up."}])["content"][0]["text"] == "Paper.\n\nSum up."


def test_the_limit_of_tokens_is_kept(ask: Ask) -> None:
    made = write(ask, "one two three", max_tokens=2)
    assert (made["content"][0]["text"], made["stop_reason"]) == ("one two", "max_tokens")


def test_tokens_are_counted(ask: Ask) -> None:
    asked = {"model": "echo", "system": "Be kind.", "messages": [{"role": "user", "content": "one two three"}]}
    assert ask("POST", "/v1/messages/count_tokens", asked).json() == {"input_tokens": 5}


@pytest.mark.parametrize(
    ("fields", "status", "kind", "reason"),
    [
        ({"model": "none"}, 404, "not_found_error", "model 'none' not found"),
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_request_error", "role"),
        ({"messages": [{"role": "user", "content": [{"type": "hum"}]}]}, 400, "invalid_request_error", "hum"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "invalid_request_error", "text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]},
            400,
            "invalid_request_error",
            "base64",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, 400, "invalid_request_error", "web_search"),
        ({"output_config": {"format": {"type": "xml"}}}, 400, "invalid_request_error", "format"),
    ],
)
def test_errors_have_anthropics_form(ask: Ask, fields: dict[str, Any], status: int, kind: str, reason: str) -> None:
    answer = ask("POST", "/v1/messages", body("x") | fields)
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert reason in told["error"]["message"]


def test_anthropics_client_reads_them(client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": "echo", "max_tokens": 64}
    made = client.messages.create(messages=[{"role": "user", "content": "Good day."}], **asked)
    assert made.content[0].type == "text" and made.content[0].text == "Good day."
    with client.messages.stream(messages=[{"role": "user", "content": "one two three"}], **asked) as stream:
        assert "".join(stream.text_stream) == "one two three"
        final = stream.get_final_message()
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 3, 3)
    with client.messages.stream(messages=[{"role": "user", "content": CALL}], tools=[TOOL], **asked) as stream:
        [block] = stream.get_final_message().content
    assert block.type == "tool_use" and block.input == {"a": 1}
    counted = client.messages.count_tokens(model="echo", messages=[{"role": "user", "content": "one two"}])
    assert counted.input_tokens == 2
    with pytest.raises(anthropic.NotFoundError, match="model 'none' not found"):
        client.messages.create(model="none", max_tokens=1, messages=[{"role": "user", "content": "x"}])
