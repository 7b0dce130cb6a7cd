"""What a request becomes before a model reads it, with templates of both languages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from smidgen.errors import InvalidInput, SmidgenError
from smidgen.serving.details import Header
from smidgen.serving.exchange import GenerationRequest, ToolCall, Turn
from smidgen.serving.layout import Layout, plan
from smidgen.serving.library import ServedModel

CHATML = (
    "{% if tools %}[{{ tools | length }} tools]{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}</>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% if enable_thinking is false %}<think></think>"
    "{% endif %}{% endif %}"
)
GO = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</>{{ end }}<assistant>"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
USER = (Turn("user", "Hi"),)


@pytest.fixture(autouse=True)
def headers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Header]:
    """Headers by digest, for models whose files are not there."""
    known = {"jinja": Header({"general.architecture": "llama"}, (), CHATML, "<s>", "</s>"), "bare": Header()}
    for place in ("details", "layout"):
        monkeypatch.setattr(f"smidgen.serving.{place}.header_of", lambda model: known[model.digest])
    return known


def model(digest: str = "jinja", **facts: Any) -> ServedModel:
    from pathlib import Path

    return ServedModel("m:latest", "llama_cpp", Path("m.gguf"), digest, facts=facts)


def text(served: ServedModel, request: GenerationRequest) -> str:
    layout = plan(served, request)
    return layout.text(layout.turns)


def asked(**fields: Any) -> GenerationRequest:
    return GenerationRequest("m", **({"messages": USER} | fields))


def test_a_conversation_goes_through_the_files_own_template() -> None:
    assert text(model(), asked()) == "<user>Hi</><assistant>"
    assert text(model(), asked(messages=(*USER, Turn("assistant", "Yes, ")))) == "<user>Hi</><assistant>Yes,"


def test_a_prompt_is_one_question() -> None:
    assert text(model(), asked(messages=None, prompt="Why?", system="Be brief.")) == (
        "<system>Be brief.</><user>Why?</><assistant>"
    )


def test_what_the_modelfile_says_stands_first() -> None:
    served = model(system="Own.", messages=[{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}])
    own = "<system>Own.</><user>A</><assistant>B</>"
    assert text(served, asked()) == f"{own}<user>Hi</><assistant>"
    assert text(served, asked(messages=None, prompt="Hi")) == f"{own}<user>Hi</><assistant>"
    given = asked(messages=(Turn("system", "Given."), *USER))
    assert text(model(system="Own."), given) == "<system>Given.</><user>Hi</><assistant>"


def test_go_templates_count_before_the_files_own() -> None:
    assert text(model("bare", template=GO), asked()) == "<user>Hi</><assistant>"
    assert text(model(template=GO), asked(template="{{ .Prompt }}!")) == "Hi!"
    assert text(model("bare"), asked()) == "Hi"


def test_tools_and_calls_reach_the_template() -> None:
    turns = (*USER, Turn("assistant", tool_calls=(ToolCall("f", {"a": 1}),)), Turn("tool", "3", tool_name="f"))
    assert text(model(), asked(messages=turns, tools=(TOOL,))) == (
        '[1 tools]<user>Hi</><assistant>f{"a": 1}</><tool>3</><assistant>'
    )
    assert text(model(), asked(tools=(TOOL,), tool_choice="none")) == "<user>Hi</><assistant>"


def test_functions_are_told_in_words_where_the_template_has_no_place_for_them() -> None:
    other = {"type": "function", "function": {"name": "g", "description": "Gee.", "parameters": {"type": "object"}}}
    told = text(model(template=GO), asked(tools=(TOOL, other), tool_choice="g"))
    system, rest = told.removeprefix("<system>").split("</>", 1)
    assert rest == "<user>Hi</><assistant>" and system.startswith("You have these functions")
    assert '{"name": "g", "description": "Gee.", "parameters": {"type": "object"}}' in system
    assert '"name": "f"' not in system and system.endswith('"arguments": {its arguments}}')
    free = text(model(template=GO), asked(tools=(TOOL,)))
    assert '{"name": "f"}' in free and "answer in words" in free
    own = (Turn("system", "Be brief."), *USER)
    assert text(model(template=GO), asked(messages=own, tools=(TOOL,), tool_choice="required")).startswith(
        '<system>Be brief.\n\nYou have these functions, each with the JSON schema of its arguments:\n{"name": "f"}'
    )


def test_calls_and_results_are_told_in_words_too() -> None:
    called = Turn("assistant", tool_calls=(ToolCall("f", {"a": 1}),))
    results = (Turn("tool", "3", tool_name="f"), Turn("tool", "4"), Turn("user", "So?"))
    said = '<user>Hi</><assistant>{"name": "f", "arguments": {"a": 1}}</>'
    said += "<user>The result of f:\n3\n\nThe result:\n4\n\nSo?</><assistant>"
    assert text(model(template=GO), asked(messages=(*USER, called, *results))) == said
    assert text(model(template=GO), asked(messages=(*USER, called, *results), tools=(TOOL,))).endswith(said)


def test_thinking_can_be_switched_off() -> None:
    assert text(model(), asked(think=False)).endswith("<assistant><think></think>")
    assert plan(model(), asked()).thinks is True
    assert plan(model(template=GO), asked()).thinks is None


@pytest.mark.parametrize(
    ("served", "request_fields", "words"),
    [
        (model(template=GO), {"think": True}, '"m" does not support thinking'),
        (model(template=GO), {"tools": (TOOL,), "needs_tools": True}, '"m" does not support tools'),
        (model(), {"messages": None, "prompt": "a", "suffix": "b"}, '"m" does not support insert'),
        (model(), {"messages": (Turn("user", "x", images=(b"x",)),)}, "does not support images"),
        (model(), {"tools": (TOOL,), "tool_choice": "g"}, "none of the tools"),
        (model(template=GO), {"tool_choice": "required"}, "there are no tools"),
    ],
)
def test_what_a_model_cannot_do_is_refused(served: ServedModel, request_fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SmidgenError, match=words):
        plan(served, asked(**request_fields))


def test_a_model_for_vectors_does_not_chat(headers: dict[str, Header]) -> None:
    headers["vectors"] = Header({"general.architecture": "bert", "bert.pooling_type": 1})
    with pytest.raises(SmidgenError, match='"m" does not support chat'):
        plan(model("vectors"), asked())


def test_a_broken_template_is_a_clear_error(headers: dict[str, Header]) -> None:
    with pytest.raises(InvalidInput, match="template"):
        text(model(), asked(template="{{ .Prompt "))
    headers["jinja"] = replace(headers["jinja"], jinja="{% if %}")
    with pytest.raises(InvalidInput, match="template"):
        text(model(), asked())


def test_a_prompt_that_opens_the_thinking_is_seen() -> None:
    layout = plan(model(), asked())
    assert isinstance(layout, Layout)
    assert layout.opens_thinking("<assistant><think>\n")
    assert not layout.opens_thinking("<assistant><think></think>")
