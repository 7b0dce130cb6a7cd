"""What OpenAI's routes have in common: content in parts, calls with arguments as text, formats, choices of tools."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from smidgen.errors import InvalidInput, Unsupported
from smidgen.serving.exchange import Think, ToolCall, Turn

_TEXT_PARTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")
_IMAGE_PARTS = ("image_url", "input_image")
_EFFORTS: dict[str, Think] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}

DEFAULTS: Mapping[str, Any] = {"temperature": 1.0, "top_p": 1.0}
"""Options where neither client nor model says, unlike Ollama's."""


def content_of(content: object) -> tuple[str, tuple[bytes, ...]]:
    """Return a message's text and its images.

    Args:
        content: A text, a list of parts, or None.

    Raises:
        Unsupported: A part is neither text nor image, or an image is not in the request itself.
        InvalidInput: It is anything else.

    Example:
        >>> content_of([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
        ('ab', ())
    """
    if content is None or isinstance(content, str):
        return content or "", ()
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InvalidInput("invalid message content: expected a text or a list of parts")
    texts: list[str] = []
    images: list[bytes] = []
    for part in content:
        kind = part.get("type")
        if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "refusal" and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
        elif kind in _IMAGE_PARTS:
            images.append(_image(part.get("image_url")))
        else:
            raise Unsupported(f"invalid message content: parts of type {str(kind)[:50]!r} are not taken")
    return "".join(texts), tuple(images)


def _image(given: object) -> bytes:
    address = given.get("url") if isinstance(given, dict) else given
    if not isinstance(address, str):
        raise InvalidInput("an image has no image_url")
    if not address.startswith("data:"):
        raise Unsupported("images are taken as data: URIs only, not fetched from elsewhere")
    return decoded(address.partition(",")[2])


def decoded(text: str) -> bytes:
    """Decode an image.

    Raises:
        InvalidInput: It is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("an image is not base64") from None


def call_of(name: str, arguments: str, number: str, index: int) -> ToolCall:
    """Return a call whose arguments are given as text.

    Raises:
        InvalidInput: They are no JSON object.
    """
    try:
        values = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise InvalidInput(f"the arguments of the call of {name!r} are not a JSON object")
    return ToolCall(name, values, number, index)


def with_tool_names(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Name the function that each tool's result comes from, by the call that it answers."""
    from dataclasses import replace

    names: dict[str, str] = {}
    named: list[Turn] = []
    for turn in turns:
        names |= {call.id: call.name for call in turn.tool_calls}
        known = names.get(turn.tool_call_id, "")
        named.append(replace(turn, tool_name=known) if known and not turn.tool_name else turn)
    return tuple(named)


def format_of(given: Mapping[str, Any]) -> Literal["json"] | Mapping[str, Any] | None:
    """Return the format that an answer must have.

    Args:
        given: {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema"} with the schema in it or in its
            "json_schema".

    Raises:
        InvalidInput: It is anything else.
    """
    kind = given.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return "json"
    holder = given.get("json_schema", given)
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping):
        raise InvalidInput("invalid response format: expected text, json_object, or json_schema with a schema")
    return schema


def think_of(effort: str) -> Think | None:
    """Return how hard the model shall think; an empty effort leaves it to the model.

    Raises:
        InvalidInput: There is no such effort.
    """
    if not effort:
        return None
    if effort not in _EFFORTS:
        raise InvalidInput(f"invalid reasoning effort {effort[:50]!r}: expected one of {', '.join(_EFFORTS)}")
    return _EFFORTS[effort]


def tool_choice_of(given: object) -> str:
    """Return the choice of a tool as the service knows it.

    Raises:
        InvalidInput: It is no choice.

    Example:
        >>> tool_choice_of({"type": "function", "function": {"name": "f"}}), tool_choice_of(None)
        ('f', 'auto')
    """
    if given is None:
        return "auto"
    if given in ("auto", "none", "required"):
        return str(given)
    function = given.get("function", given) if isinstance(given, dict) and given.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidInput('invalid tool_choice: expected "auto", "none", "required", or a function')
    return str(function["name"])


def biases_of(given: Mapping[str, float]) -> dict[int, float]:
    """Return what is added to tokens' scores.

    Raises:
        InvalidInput: A key is no token's number, or a value is not between -100 and 100.
    """
    try:
        biases = {int(token): value for token, value in given.items()}
    except ValueError:
        raise InvalidInput("invalid logit_bias: its keys must be numbers of tokens") from None
    if any(token < 0 or not -100 <= value <= 100 for token, value in biases.items()):
        raise InvalidInput("invalid logit_bias: its values must be between -100 and 100")
    return biases


def stops_of(given: str | Sequence[str]) -> list[str]:
    """Return the texts at which an answer ends."""
    return [given] if isinstance(given, str) else list(given)
