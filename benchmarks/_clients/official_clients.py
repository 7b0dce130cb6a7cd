"""What the clients of Ollama, OpenAI and Anthropic do most, against the server at ``CLIENTS_ADDRESS``.

A test fails where an answer lacks what the client's types promise or, for calls and JSON, what was asked for.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest

ADDRESS, MODEL = os.environ["CLIENTS_ADDRESS"], os.environ["CLIENTS_MODEL"]
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Tells a city's weather.", "parameters": PARAMETERS}
TOOL: Any = {"type": "function", "function": FUNCTION}
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
SHORT: Any = {"temperature": 0, "num_predict": 32}


@pytest.fixture
def native() -> Iterator[ollama.Client]:
    """Ollama's client."""
    with ollama.Client(ADDRESS) as client:
        yield client


@pytest.fixture
def other() -> Iterator[openai.OpenAI]:
    """OpenAI's client."""
    with openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def third() -> Iterator[anthropic.Anthropic]:
    """Anthropic's client."""
    with anthropic.Anthropic(base_url=ADDRESS, api_key="any", max_retries=0) as client:
        yield client


def test_ollama_chat_whole_and_streamed(native: ollama.Client) -> None:
    whole = native.chat(MODEL, QUESTION, options=SHORT)
    pieces = list(native.chat(MODEL, QUESTION, options=SHORT, stream=True))
    assert whole.message.content
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert pieces[-1].done_reason in ("stop", "length") and pieces[-1].eval_count


def test_ollama_generate_whole_and_streamed(native: ollama.Client) -> None:
    whole = native.generate(MODEL, "Once upon a time", options=SHORT)
    pieces = list(native.generate(MODEL, "Once upon a time", options=SHORT, stream=True))
    assert whole.response and "".join(piece.response for piece in pieces) == whole.response


def test_ollama_asynchronous(native: ollama.Client) -> None:
    async def ask() -> str:
        client = ollama.AsyncClient(ADDRESS)
        stream = await client.chat(MODEL, QUESTION, options=SHORT, stream=True)
        return "".join([piece.message.content or "" async for piece in stream])

    assert asyncio.run(ask())


def test_ollama_schema(native: ollama.Client) -> None:
    answer = native.chat(MODEL, QUESTION, format=CITY, options=SHORT)
    assert json.loads(answer.message.content or "") == {"city": "Paris"}


def test_ollama_tools(native: ollama.Client) -> None:
    (call,) = native.chat(MODEL, QUESTION, tools=[TOOL], options=SHORT).message.tool_calls or ()
    assert (call.function.name, dict(call.function.arguments)) == ("weather", {"city": "Paris"})


def test_ollama_thinking(native: ollama.Client) -> None:
    answer = native.chat(MODEL, QUESTION, think=True, options=SHORT)
    assert answer.message.thinking and answer.message.content


def test_ollama_vectors(native: ollama.Client) -> None:
    made = native.embed(MODEL, ["one", "two"])
    assert len(made.embeddings) == 2 and sum(each**2 for each in made.embeddings[0]) == pytest.approx(1, abs=1e-4)


def test_ollama_shows_and_errors(native: ollama.Client) -> None:
    shown = native.show(MODEL)
    assert "completion" in (shown.capabilities or []) and shown.details is not None
    assert native.list() is not None and native.ps() is not None
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        native.chat("missing", QUESTION)
    assert caught.value.status_code == 404


def test_openai_chat_whole_and_streamed(other: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 32}
    whole = other.chat.completions.create(**asked)
    chunks = list(other.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text and text == whole.choices[0].message.content
    assert chunks[-1].usage is not None and chunks[-1].usage == whole.usage


def test_openai_schema(other: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    made = other.chat.completions.create(model=MODEL, messages=QUESTION, response_format=form, max_tokens=32)
    assert json.loads(made.choices[0].message.content or "")["city"] in ("Paris", "Rome")


def test_openai_tools(other: openai.OpenAI) -> None:
    with other.chat.completions.stream(model=MODEL, messages=QUESTION, tools=[TOOL], max_tokens=32) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def test_openai_tools_that_are_demanded(other: openai.OpenAI) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
        asked: Any = {"tools": [TOOL], "tool_choice": choice, "max_tokens": 48, "temperature": 0}
        (call,) = other.chat.completions.create(model=MODEL, messages=QUESTION, **asked).choices[0].message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    tool: Any = {"type": "function", "strict": False, **FUNCTION}
    made = other.responses.create(
        model=MODEL, input=QUESTION, tools=[tool], tool_choice="required", temperature=0, max_output_tokens=48
    )
    called = next(each for each in made.output if each.type == "function_call")
    assert (called.name, json.loads(called.arguments)) == ("weather", {"city": "Paris"})


def test_openai_completions(other: openai.OpenAI) -> None:
    made = other.completions.create(model=MODEL, prompt=["One two", "Three"], max_tokens=8)
    assert [choice.index for choice in made.choices] == [0, 1] and all(choice.text for choice in made.choices)


def test_openai_responses(other: openai.OpenAI) -> None:
    events = list(other.responses.create(model=MODEL, input="Say hello.", max_output_tokens=16, stream=True))
    assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")
    assert any(event.type == "response.output_text.delta" for event in events)


def test_openai_vectors(other: openai.OpenAI) -> None:
    made = other.embeddings.create(model=MODEL, input=["one", "two"])
    assert [each.index for each in made.data] == [0, 1] and len(made.data[0].embedding) > 1


def test_openai_errors(other: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not found"):
        other.chat.completions.create(model="missing", messages=QUESTION)
    with pytest.raises(openai.BadRequestError):
        other.chat.completions.create(model=MODEL, messages=[])


def test_anthropic_whole_and_streamed(third: anthropic.Anthropic) -> None:
    asked: Any = {"model": MODEL, "messages": QUESTION, "max_tokens": 32}
    whole = third.messages.create(**asked)
    with third.messages.stream(**asked) as stream:
        text, final = "".join(stream.text_stream), stream.get_final_message()
    assert whole.content[0].text and text == final.content[0].text
    assert final.stop_reason in ("end_turn", "max_tokens") and final.usage.output_tokens > 0


def test_anthropic_tools(third: anthropic.Anthropic) -> None:
    tool: Any = {"name": "weather", "description": "Tells a city's weather.", "input_schema": PARAMETERS}
    made = third.messages.create(model=MODEL, messages=QUESTION, max_tokens=32, tools=[tool])
    (call,) = [block for block in made.content if block.type == "tool_use"]
    assert (call.name, call.input, made.stop_reason) == ("weather", {"city": "Paris"}, "tool_use")


def test_anthropic_tools_that_are_demanded(third: anthropic.Anthropic) -> None:
    tool: Any = {"name": "weather", "input_schema": PARAMETERS}
    for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
        asked: Any = {"tools": [tool], "tool_choice": choice, "extra_body": {"temperature": 0}}
        made = third.messages.create(model=MODEL, messages=QUESTION, max_tokens=48, **asked)
        call = made.content[-1]
        assert (call.name, call.input, made.stop_reason) == ("weather", {"city": "Paris"}, "tool_use")


def test_anthropic_counts_and_errors(third: anthropic.Anthropic) -> None:
    assert third.messages.count_tokens(model=MODEL, messages=QUESTION).input_tokens > 4
    with pytest.raises(anthropic.NotFoundError, match="not found"):
        third.messages.create(model="missing", messages=QUESTION, max_tokens=8)
