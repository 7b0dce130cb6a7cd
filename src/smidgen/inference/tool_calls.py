"""Calls of functions in what models write: found in each family's own notation, and given the types they need."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Call = tuple[str, dict[str, Any]]
"""A function's name and its arguments."""

MARKS = {
    "<tool_call>": "</tool_call>",
    "<|tool_call|>": "",
    "[TOOL_CALLS]": "",
    "<|python_tag|>": "",
    "functools[": "",
    "<function_call>": "</function_call>",
}
"""What announces calls -> what closes one, empty where the answer's end does."""

_NAMED = re.compile(r"\s*([\w.-]+)\s*\[ARGS\]\s*(?=\{)")
_FENCE = re.compile(r"^```(?:json|tool_code|python)?\s*|\s*```$")
_DECODER = json.JSONDecoder()
_MOST = 64


def names_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return each tool's parameters' schema by its function's name.

    Example:
        >>> names_of([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
        {'f': {'type': 'object'}}
    """
    found = {}
    for tool in tools:
        function = tool.get("function", tool)
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            parameters = function.get("parameters")
            found[function["name"]] = parameters if isinstance(parameters, Mapping) else {}
    return found


def parse(text: str, known: Mapping[str, Mapping[str, Any]]) -> list[Call] | None:
    """Read a text that is nothing but calls.

    Understood are one JSON object, several, or a list of them, with "name" and "arguments" or "parameters" (or
    both inside "function"), Mistral's ``name[ARGS]{...}``, and Python calls as in ``[f(a=1), g()]``.

    Args:
        text: What stands behind a mark, or a whole answer.
        known: Parameters' schema by function name; a call of another function is none.

    Returns:
        The calls with their arguments' types mended; None where the text is anything else.

    Example:
        >>> parse('{"name": "f", "parameters": {"n": "3"}}', {"f": {"properties": {"n": {"type": "integer"}}}})
        [('f', {'n': 3})]
        >>> parse("[f(n=3)]", {"f": {}}), parse("Call f!", {"f": {}})
        ([('f', {'n': 3})], None)
    """
    stripped = _FENCE.sub("", text.strip()).strip()
    if not stripped:
        return None
    found = _json_calls(stripped)
    if found is None:
        found = _python_calls(stripped)
    if not found or len(found) > _MOST or any(name not in known for name, _ in found):
        return None
    return [(name, typed(arguments, known[name])) for name, arguments in found]


def is_whole(text: str) -> bool:
    """Say whether a text is one JSON value and nothing behind it, so that no more need be waited for."""
    try:
        _, end = _DECODER.raw_decode(text.strip())
    except (ValueError, RecursionError):
        return False
    return end == len(text.strip())


def typed(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Give arguments the types that the schema wants, where nothing is lost by it.

    Example:
        >>> typed({"n": "3", "x": 1, "ok": "true"}, {"properties": {"n": {"type": "integer"},
        ...       "x": {"type": "string"}, "ok": {"type": "boolean"}}})
        {'n': 3, 'x': '1', 'ok': True}
    """
    properties = schema.get("properties")
    wanted = properties if isinstance(properties, Mapping) else {}
    return {name: _as_type(value, wanted.get(name)) for name, value in arguments.items()}


def _as_type(value: Any, schema: Any) -> Any:
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if not kinds or any(_is(value, kind) for kind in kinds):
        return typed(value, schema) if isinstance(value, Mapping) and isinstance(schema, Mapping) else value
    if "string" in kinds and isinstance(value, int | float):
        return json.dumps(value)
    if "integer" in kinds and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            read = json.loads(value.lower() if value.lower() in ("true", "false") else value)
        except (ValueError, RecursionError):
            return value
        return read if any(_is(read, kind) for kind in kinds) else value
    return value


def _is(value: Any, kind: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    types: dict[object, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "array": list,
        "object": dict,
        "null": type(None),
    }
    return kind in types and isinstance(value, types[kind])


def _json_calls(text: str) -> list[Call] | None:
    values: list[Any] = []
    rest = text
    while rest:
        named = _NAMED.match(rest)
        try:
            value, end = _DECODER.raw_decode(rest[named.end() :] if named else rest)
        except (ValueError, RecursionError):
            return None
        values.append({"name": named[1], "arguments": value} if named else value)
        rest = rest[(named.end() if named else 0) + end :].lstrip(" \n\t\r;,")
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    calls = [_json_call(value) for value in flat]
    return None if None in calls else [call for call in calls if call is not None]


def _json_call(value: Any) -> Call | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name = value.get("name", value.get("function"))
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _python_calls(text: str) -> list[Call] | None:
    if len(text) > 1 << 16:
        return None
    try:
        parsed = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = parsed.elts if isinstance(parsed, ast.List | ast.Tuple) else [parsed]
    calls: list[Call] = []
    for node in nodes:
        if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
            return None
        try:
            arguments = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return None
        calls.append((ast.unparse(node.func), arguments))
    return calls
