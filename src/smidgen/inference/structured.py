"""JSON schemas that an answer must satisfy, checked and put into the form that the engines take.

llguidance compiles them; llama.cpp has it built in and takes the schema as it is. A llama-server without it turns
the same schema into a GBNF grammar of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smidgen.errors import InvalidInput

MAX_DEPTH = 64
"""How deep a schema's parts may lie in each other."""

LARGEST_NUMBER = 2**53
"""How large a schema's numbers may be, either way: what every JSON reader holds exactly.

llguidance 1.3 ends the whole process on whole numbers near -2**63.
"""

LARGEST_COUNT = 100_000
"""How many items, letters or properties a schema may ask for; with a thousand million the engine ends itself."""

_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_NESTED_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_UNKNOWN = "Unimplemented keys"
log = logging.getLogger("smidgen.inference")


def fault_of(schema: Mapping[str, Any]) -> str:
    """Let llguidance compile a schema; returns what is wrong with it, empty where nothing is."""
    from llguidance import LLMatcher

    return LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(json.dumps(dict(schema))), None)


def schema_of(
    wanted: object, *, most_bytes: int, fault_of: Callable[[Mapping[str, Any]], str] = fault_of
) -> dict[str, Any]:
    """Check what a person gave as an answer's format, and return the schema for the engine.

    Objects that list their properties get no others, unless the schema says so itself: small models otherwise go
    on inventing some. White space is fixed for the same reason. Keywords that llguidance does not know (``not``,
    ``if``, ``uniqueItems``) are not enforced, and logged.

    Args:
        wanted: "json" for any object, or a JSON schema.
        most_bytes: Size of the largest schema that is taken.
        fault_of: Says what is wrong with a schema; elsewhere than in this process where others' schemas are read.

    Raises:
        InvalidInput: It is neither, it is too large, or it contradicts itself.

    Example:
        >>> schema_of("json", most_bytes=1000)["type"]
        'object'
    """
    if wanted == "json":
        return {"type": "object", "x-guidance": _LAYOUT}
    if not isinstance(wanted, Mapping):
        shown = json.dumps(wanted, default=str, ensure_ascii=False)[:200]
        raise InvalidInput(f'invalid format: {shown}; expected "json" or a valid JSON Schema object')
    try:
        size = len(json.dumps(wanted))
        schema = _closed(wanted, MAX_DEPTH)
        _require_safe_numbers(schema)
    except (RecursionError, TypeError, ValueError) as error:
        raise InvalidInput(f"invalid format: {error}") from None
    if size > most_bytes:
        raise InvalidInput(f"invalid format: the schema has {size:,} bytes, at most {most_bytes:,} are taken")
    return _compilable(schema, fault_of)


def _require_safe_numbers(schema: Mapping[str, Any]) -> None:
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping | list):
            waiting += part.values() if isinstance(part, Mapping) else part
        elif isinstance(part, int | float) and abs(part) > LARGEST_NUMBER:
            raise ValueError(f"a number lies beyond ±{LARGEST_NUMBER:,}")
        if isinstance(part, Mapping):
            wanted = [part.get(name) for name in ("minItems", "minLength", "minProperties")]
            if any(isinstance(count, int | float) and count > LARGEST_COUNT for count in wanted):
                raise ValueError(f"more than {LARGEST_COUNT:,} items, letters or properties are asked for")


def _compilable(schema: dict[str, Any], fault_of: Callable[[Mapping[str, Any]], str]) -> dict[str, Any]:
    for layout in (_LAYOUT, _LAYOUT | {"lenient": True}):
        laid_out = schema | {"x-guidance": layout}
        fault = fault_of(laid_out)
        if not fault:
            return laid_out
        if not fault.startswith(_UNKNOWN):
            break
        log.warning("A JSON schema is only partly enforced: %s", fault)
    raise InvalidInput(f"invalid format: {fault.strip()}")


def _closed(schema: Any, depth: int) -> Any:
    """Return a schema whose objects have no properties but those they list."""
    if depth == 0:
        raise ValueError(f"the schema is nested more than {MAX_DEPTH} deep")
    if isinstance(schema, list):
        return [_closed(part, depth - 1) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed: dict[str, Any] = {}
    for key, part in schema.items():
        if key == "maxItems" and isinstance(part, int | float) and part > LARGEST_COUNT:
            continue  # no answer comes near it
        if key in _NESTED_MAPS and isinstance(part, Mapping):
            closed[key] = {name: _closed(each, depth - 1) for name, each in part.items()}
        elif key in ("enum", "const", "default", "examples", "required"):
            closed[key] = part
        else:
            closed[key] = _closed(part, depth - 1)
    if isinstance(closed.get("properties"), Mapping) and not {"additionalProperties", "patternProperties"} & set(
        closed
    ):
        closed["additionalProperties"] = False
    return closed


def tool_call_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the schema of a call of one of these functions, as {"name": ..., "arguments": {...}}.

    Args:
        tools: Functions, each with "name" and the JSON schema of its "parameters".

    Example:
        >>> tool_call_schema([{"name": "now"}])["properties"]["name"]
        {'const': 'now'}
    """
    parts: dict[str, Any] = {}
    calls = []
    for number, tool in enumerate(tools):
        parameters = tool.get("parameters") or {"type": "object", "properties": {}}
        if _refers(parameters):  # what it refers to is no longer at the schema's beginning
            parts[f"call{number}"] = _moved(parameters, f"#/$defs/call{number}")
            parameters = {"$ref": f"#/$defs/call{number}"}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool["name"]}, "arguments": parameters},
                "required": ["name", "arguments"],
            }
        )
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return schema | ({"$defs": parts} if parts else {})


def _refers(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(map(_refers, schema.values()))
    return isinstance(schema, list) and any(map(_refers, schema))


def _moved(schema: Any, place: str) -> Any:
    """Return a schema whose references hold once it lies at another place."""
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: place + part[1:] if key == "$ref" and isinstance(part, str) and part[:1] == "#" else _moved(part, place)
        for key, part in schema.items()
    }
