"""OpenAI's responses with the echo engine: the items, the events in their order, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

Ask = Callable[..., httpx.Response]
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CALL = '{"name": "add", "arguments": {"a": 1}}'


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as made:
        yield made


def respond(ask: Ask, given: Any, **fields: Any) -> Any:
    answer = ask("POST", "/v1/responses", {"model": "echo", "input": given, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(ask: Ask, given: Any, **fields: Any) -> list[Any]:
    answer = ask("POST", "/v1/responses", {"model": "echo", "input": given, "stream": True, **fields})
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for part in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_a_text_is_answered(ask: Ask) -> None:
    made = respond(ask, "Good day.", instructions="Be kind.", metadata={"a": "b"})
    assert (made["object"], made["status"], made["store"]) == ("response", "completed", False)
    assert (made["instructions"], made["metadata"], made["error"]) == ("Be kind.", {"a": "b"}, None)
    [item] = made["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": "Good day.", "annotations": [], "logprobs": []}]
    assert made["usage"]["total_tokens"] == 6 and made["usage"]["input_tokens"] == 4


def test_a_stream_tells_how_the_answer_comes_to_be(ask: Ask) -> None:
    found = events(ask, "Good day.")
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event["delta"] for event in found if "delta" in event) == "Good day."
    assert found[0]["response"]["status"] == "in_progress" and found[0]["response"]["output"] == []
    added, done = found[2]["item"], found[8]["item"]
    assert added["content"] == [] and added["id"] == done["id"] == found[4]["item_id"]
    assert found[-1]["response"]["output"] == [done]


def test_thinking_and_calls_are_items_of_their_own(ask: Ask) -> None:
    given = f"<think>Hm, so.</think>{CALL}"
    thought, call = respond(ask, given, tools=[TOOL])["output"]
    assert (thought["type"], thought["summary"]) == ("reasoning", [{"type": "summary_text", "text": "Hm, so."}])
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "add", '{"a":1}')
    found = events(ask, given, tools=[TOOL])
    kinds = [event["type"].removeprefix("response.") for event in found]
    assert kinds[3:5] == ["reasoning_summary_part.added", "reasoning_summary_text.delta"]
    assert kinds[-5:] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["output_index"] for event in found if event["type"].endswith("item.done")] == [0, 1]


def test_an_answer_that_was_cut_says_so(ask: Ask) -> None:
    made = respond(ask, "one two three", max_output_tokens=2)
    assert (made["status"], made["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert events(ask, "one two three", max_output_tokens=2)[-1]["type"] == "response.incomplete"


def test_items_make_a_conversation(ask: Ask) -> None:
    items = [
        {"role": "user", "content": "Add."},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "add", "arguments": '{"a": 2}'},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
    ]
    assert respond(ask, items, tools=[TOOL])["output"][0]["content"][0]["text"] == "two"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"previous_response_id": "resp_1"}, "keeps no responses"),
        ({"conversation": "c"}, "keeps no responses"),
        ({"background": True}, "keeps no responses"),
        ({"input": []}, "empty"),
        ({"input": [{"type": "web_search_call"}]}, "web_search_call"),
        ({"input": [{"role": "robot", "content": "x"}]}, "robot"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "function"}]}, "name"),
        ({"text": {"format": {"type": "json_schema"}}}, "schema"),
        ({"truncation": "maybe"}, "truncation"),
    ],
)
def test_what_cannot_be_is_refused(ask: Ask, fields: dict[str, Any], reason: str) -> None:
    answer = ask("POST", "/v1/responses", {"model": "echo", "input": "x"} | fields)
    assert answer.status_code == 400 and reason in answer.json()["error"]["message"]


def test_openais_client_reads_them(client: openai.OpenAI) -> None:
    made = client.responses.create(model="echo", input="Good day.", text={"format": {"type": "text"}})
    assert made.output_text == "Good day."
    with client.responses.stream(model="echo", input=CALL, tools=[TOOL]) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert final.output[0].type == "function_call" and final.output[0].arguments == '{"a":1}'
