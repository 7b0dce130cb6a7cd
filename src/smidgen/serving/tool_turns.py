"""Functions to call, for models whose template has no place for them: told in the system message, and so are calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from smidgen.serving.exchange import Turn

_SHAPE = '{"name": the function\'s name, "arguments": {its arguments}}'


def chosen(tools: Sequence[Mapping[str, Any]], choice: str) -> list[Mapping[str, Any]]:
    """Return the functions of tools that may be called.

    Args:
        tools: As {"type": "function", "function": {...}}.
        choice: "auto", "none", "required", or a function's name.
    """
    functions = [tool["function"] for tool in tools]
    return [function for function in functions if choice in ("auto", "required", function["name"])]


def has_calls(turns: Sequence[Turn]) -> bool:
    """Say whether functions were called in a conversation."""
    return any(turn.tool_calls or turn.role == "tool" for turn in turns)


def in_words(turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]], choice: str) -> tuple[Turn, ...]:
    """Say in system, user and assistant messages what a template with tools would lay out.

    Results of calls become the user's words, joined with those beside them, since many templates want turns to
    alternate.

    Example:
        >>> from smidgen.serving.exchange import ToolCall
        >>> call = ToolCall("add", {"a": 1})
        >>> turns = (Turn("user", "1+1?"), Turn("assistant", tool_calls=(call,)), Turn("tool", "2", tool_name="add"))
        >>> for turn in in_words(turns, [], "none"):
        ...     print(turn.role, turn.content)
        user 1+1?
        assistant {"name": "add", "arguments": {"a": 1}}
        user The result of add:
        2
    """
    said: list[Turn] = []
    after_result = False
    for turn in turns:
        is_result = turn.role == "tool"
        plain = _plain(turn) if turn.tool_calls or is_result else turn
        if said and said[-1].role == plain.role == "user" and (is_result or after_result):
            text = "\n\n".join(part for part in (said[-1].content, plain.content) if part)
            said[-1] = replace(said[-1], content=text, images=(*said[-1].images, *plain.images))
        else:
            said.append(plain)
        after_result = is_result
    functions = chosen(tools, choice)
    return _told(said, _explained(functions, must=choice != "auto")) if functions else tuple(said)


def _plain(turn: Turn) -> Turn:
    if turn.role == "tool":
        of = f" of {turn.tool_name}" if turn.tool_name else ""
        return Turn("user", f"The result{of}:\n{turn.content}", images=turn.images)
    calls = [_json({"name": call.name, "arguments": dict(call.arguments)}) for call in turn.tool_calls]
    return replace(turn, content="\n".join([*([turn.content] if turn.content else []), *calls]), tool_calls=())


def _told(turns: Sequence[Turn], text: str) -> tuple[Turn, ...]:
    """Add a text to the first system message, or put one before everything."""
    first = next((number for number, turn in enumerate(turns) if turn.role == "system"), None)
    if first is None:
        return (Turn("system", text), *turns)
    told = replace(turns[first], content=f"{turns[first].content}\n\n{text}")
    return (*turns[:first], told, *turns[first + 1 :])


def _explained(functions: Sequence[Mapping[str, Any]], *, must: bool) -> str:
    listed = "\n".join(_json(_described(function)) for function in functions)
    asked = (
        f"Answer with a call of a function: {_SHAPE}"
        if must
        else (f"To call a function, answer with nothing but {_SHAPE}. Where no call is needed, answer in words.")
    )
    return f"You have these functions, each with the JSON schema of its arguments:\n{listed}\n{asked}"


def _described(function: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "description", "parameters")
    return {name: function[name] for name in names if function.get(name)}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
