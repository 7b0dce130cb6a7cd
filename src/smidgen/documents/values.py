"""Values in the types that a schema asks for, and whether they fit it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smidgen.documents.candidates import Candidate
    from smidgen.documents.schema import Field


def converted(candidate: Candidate, field: Field) -> tuple[Any, str | None]:
    """Return a candidate's value in a field's type, and what is wrong where it cannot be."""
    value = candidate.value
    if field.options:
        return value, None
    if field.type == "boolean":
        return value, None if isinstance(value, bool) else f"{candidate.text!r} says neither yes nor no"
    if field.type in ("number", "integer"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return as_number(str(value), field.type)
        if field.type == "integer":
            return (int(value), None) if float(value).is_integer() else (value, f"{value} is no whole number")
        return value, None
    if isinstance(value, float):
        # A sum as text is its figures as printed, without the currency.
        figures = re.search(r"[-–(]?\d[\d.,' ]*", candidate.text)
        plain = figures.group().strip(" .,'(-–") if figures else candidate.text
        return f"-{plain}" if value < 0 else plain, None
    return str(value), None


def as_number(text: str, type_name: str) -> tuple[Any, str | None]:
    """Read a number that stands alone.

    Example:
        >>> as_number("42", "integer"), as_number("4x", "number")
        ((42, None), ('4x', "'4x' is no number"))
    """
    try:
        return (int(text) if type_name == "integer" else float(text)), None
    except ValueError:
        return text, f"{text!r} is no number"


def fitting(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Say why a value does not fit its part of a schema, None where it does."""
    from jsonschema import Draft202012Validator, FormatChecker

    own = {key: each for key, each in schema.items() if not key.startswith("x-")}
    fault = next(
        iter(Draft202012Validator(own, format_checker=FormatChecker(["date", "email"])).iter_errors(value)), None
    )
    return None if fault is None else fault.message[:200]
