"""Thinking, text and calls told apart, however the answer is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.inference.answers import AnswerParser, Piece
from smidgen.inference.tool_calls import parse, typed

THINK = ("<think>", "</think>")
TOOLS = {"f": {"properties": {"n": {"type": "integer"}}}, "g": {}}


def parts(text: str, cut: int = 10**9, **how: object) -> tuple[str, str, list[object]]:
    parser = AnswerParser(THINK, **how)  # type: ignore[arg-type]
    pieces: list[Piece] = []
    for start in range(0, len(text), cut):
        pieces += parser.feed(text[start : start + cut])
    pieces += parser.finish()
    said = "".join(piece.text for piece in pieces if piece.kind == "text")
    thought = "".join(piece.text for piece in pieces if piece.kind == "thinking")
    return thought, said, [piece.call for piece in pieces if piece.kind == "call"]


CASES = [
    ("plain text", ("", "plain text", [])),
    (" leading space", ("", " leading space", [])),
    ("<think>a b</think>\n\nc", ("a b", "c", [])),
    ("\n<think>\n\n</think>\n\nc", ("", "c", [])),
    ("<thinly veiled", ("", "<thinly veiled", [])),
    ("<think>never ends", ("never ends", "", [])),
    ('<tool_call>{"name": "f", "arguments": {"n": 1}}</tool_call>', ("", "", [("f", {"n": 1})])),
    (
        '<think>x</think><tool_call>{"name":"f","arguments":{}}</tool_call>\n<tool_call>{"name":"g"}</tool_call>',
        ("x", "", [("f", {}), ("g", {})]),
    ),
    ('Well: <tool_call>{"name": "f", "arguments": {"n": "2"}}', ("", "Well: ", [("f", {"n": 2})])),
    ('<tool_call>{"name": "unknown"}</tool_call>', ("", '<tool_call>{"name": "unknown"}</tool_call>', [])),
    ("<tool_call>oops", ("", "<tool_call>oops", [])),
    ('{"name": "f", "parameters": {"n": 3}}', ("", "", [("f", {"n": 3})])),
    ('{"answer": 42}', ("", '{"answer": 42}', [])),
    ('```json\n{"name": "g", "arguments": {}}\n```', ("", "", [("g", {})])),
    ('[TOOL_CALLS][{"name": "f", "arguments": {"n": 1}}]', ("", "", [("f", {"n": 1})])),
    ('[TOOL_CALLS]f[ARGS]{"n": 1}', ("", "", [("f", {"n": 1})])),
    ("[f(n=1), g()]", ("", "", [("f", {"n": 1}), ("g", {})])),
    ('<|python_tag|>{"name": "g", "parameters": {}}', ("", "", [("g", {})])),
    ("[1, 2, 3]", ("", "[1, 2, 3]", [])),
    ("a < b and [TOOL", ("", "a < b and [TOOL", [])),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
@pytest.mark.parametrize("cut", [1, 3, 10**9])
def test_an_answer_is_taken_apart_however_it_is_cut(
    text: str, expected: tuple[str, str, list[object]], cut: int
) -> None:
    thought, said, calls = parts(text, cut, tools=TOOLS)
    assert (thought, said.rstrip("\n"), calls) == expected


def test_a_prompt_may_have_opened_the_thinking() -> None:
    assert parts("\nhm\n</think>\n\nyes", 2, is_thinking=True) == ("hm", "yes", [])


def test_nothing_is_held_back_that_is_no_mark() -> None:
    parser = AnswerParser(None, tools=TOOLS)
    assert [piece.text for piece in parser.feed("Hello world")] == ["Hello world"]
    assert [piece.text for piece in parser.feed(" 1 <")] == [" 1 "]
    assert [piece.text for piece in parser.feed(" 2")] == ["< 2"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<tool_call>", "{", "}", '"', "a", " ", "[", "\n"]), max_size=14)
)
def test_without_tools_and_thinking_every_character_comes_through(marks: list[str]) -> None:
    text = "".join(marks)
    parser = AnswerParser()
    pieces = [*(piece for mark in marks for piece in parser.feed(mark)), *parser.finish()]
    assert "".join(piece.text for piece in pieces) == text


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='<>/think[]{}"ol_ca: \n', max_size=40), st.integers(1, 7))
def test_the_cut_changes_nothing_of_what_is_said(text: str, cut: int) -> None:
    whole, pieces = parts(text, tools=TOOLS), parts(text, cut, tools=TOOLS)
    assert [part.split() if isinstance(part, str) else part for part in whole] == [
        part.split() if isinstance(part, str) else part for part in pieces
    ]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("3", "integer", 3),
        ("3.5", "integer", "3.5"),
        (3.0, "integer", 3),
        ("2.5", "number", 2.5),
        ("True", "boolean", True),
        (1, "boolean", 1),
        (5, "string", "5"),
        ("[1]", "array", [1]),
        ('{"a": 1}', "object", {"a": 1}),
        ("x", ["integer", "string"], "x"),
        ("null", "null", None),
    ],
)
def test_arguments_get_the_type_that_the_schema_wants(value: object, kind: object, expected: object) -> None:
    assert typed({"a": value}, {"properties": {"a": {"type": kind}}}) == {"a": expected}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "f(", "f(1)", "[f(n=open('x'))]", "[" * 5000, "f(n=" + "(" * 500, "7"]
)
def test_what_is_no_call_is_none(text: str) -> None:
    assert parse(text, TOOLS) is None
