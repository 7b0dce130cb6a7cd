"""What is wrong with one part of a JSON schema: what cannot be kept, and what no value can satisfy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from smidgen import registry
from smidgen.documents.kinds import KINDS
from smidgen.documents.schema import AUTHORED
from smidgen.errors import ReferenceNotFound

KIND = "x-kind"
_ANNOTATIONS = frozenset({
    "$schema", "$id", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly", "$comment", "required", "additionalProperties",
})  # fmt: skip
_VALUES = frozenset({
    "type", "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "properties", "items",
})  # fmt: skip
_BOUNDS = (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"))
TYPES: Mapping[str, Any] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}
"""The types of JSON, and what Python has for their values."""


def malformed(schema: Mapping[str, Any]) -> list[str]:
    """Say which keywords have values that they cannot have, such as a ``maxLength`` of "ten"; types aside.

    Example:
        >>> malformed({"properties": {"a": {"maxLength": "ten"}}})
        ["properties/a/maxLength: 'ten' is not of type 'integer'."]
    """
    from jsonschema import Draft202012Validator

    try:
        found = [
            ("/".join(map(str, error.absolute_path)), error.message[:200])
            for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
        ]
    except RecursionError:
        return ["The schema is nested too deeply."]
    return [f"{place or 'the schema'}: {message}." for place, message in found if not _TYPE_PLACE.search(place)]


_TYPE_PLACE = re.compile(r"(?:^|/)type(?:/\d+)?$")


def faults(part: Mapping[str, Any], where: str) -> Iterator[str]:
    """Say what is wrong with a part that has no references and no unions.

    Args:
        part: A part that `malformed` finds nothing wrong with.
        where: What it is called in messages.

    Example:
        >>> list(faults({"type": "number", "minimum": 5, "maximum": 1}, "price"))
        ['price contradicts itself: minimum 5 is above maximum 1.']
    """
    yield from _of_keywords(part, where)
    yield from _of_types(part, where)
    yield from _of_bounds(part, where)
    yield from _of_enum(part, where)
    yield from _of_required(part, where)
    yield from _of_pattern(part, where)
    yield from _of_kind(part)


def types_of(part: Mapping[str, Any]) -> list[Any]:
    """Return the types that a part allows, none where it does not say."""
    given = part.get("type", [])
    return given if isinstance(given, list) else [given]


def _of_keywords(part: Mapping[str, Any], where: str) -> Iterator[str]:
    unknown = [key for key in part if key not in _ANNOTATIONS | _VALUES and not key.startswith("x-")]
    if unknown:
        yield f"{where} has keywords that are not supported: {', '.join(sorted(unknown))}."


def _of_types(part: Mapping[str, Any], where: str) -> Iterator[str]:
    for each in types_of(part):
        if not isinstance(each, str) or each not in TYPES:
            yield f"{where} has the type {each!r}; known: {', '.join(TYPES)}."


def _of_bounds(part: Mapping[str, Any], where: str) -> Iterator[str]:
    for low, high in _BOUNDS:
        if low in part and high in part and part[low] > part[high]:
            yield f"{where} contradicts itself: {low} {part[low]} is above {high} {part[high]}."


def _of_enum(part: Mapping[str, Any], where: str) -> Iterator[str]:
    if "enum" not in part:
        return
    known = [each for each in types_of(part) if isinstance(each, str) and each in TYPES]
    if not part["enum"]:
        yield f"{where} lists no value in its enum."
    elif known and not any(isinstance(value, TYPES[each]) for value in part["enum"] for each in known):
        yield f"{where} contradicts itself: no value of its enum is of the type {' or '.join(known)}."


def _of_required(part: Mapping[str, Any], where: str) -> Iterator[str]:
    missing = [name for name in part.get("required", []) if name not in part.get("properties", {})]
    if missing and "properties" in part:
        yield f"{where} requires what it does not describe: {', '.join(missing)}."


def _of_pattern(part: Mapping[str, Any], where: str) -> Iterator[str]:
    try:
        re.compile(part.get("pattern", ""))
    except (re.error, OverflowError, RecursionError) as error:
        yield f"{where} has a pattern that cannot be read: {error}."


def _of_kind(part: Mapping[str, Any]) -> Iterator[str]:
    known = [*sorted(AUTHORED), *registry.names(KINDS)]
    if part.get(KIND) is not None and part[KIND] not in known:
        yield str(ReferenceNotFound.among(KIND, str(part[KIND]), known))
