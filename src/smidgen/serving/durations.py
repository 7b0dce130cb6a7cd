"""Durations as Go writes them ("1h30m"), which Ollama's clients and environment use."""

from __future__ import annotations

import math
import re

from smidgen.errors import InvalidInput

FOREVER = math.inf

_LONGEST = 10**18
_MOST_TEXT = 200

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(value: object) -> float:
    """Return a duration in seconds; anything negative is forever.

    Args:
        value: A number of seconds, or a text such as "5m", "1h30m" or "0".

    Raises:
        InvalidInput: It is no duration.

    Example:
        >>> seconds("1h30m"), seconds(10), seconds("-1s"), seconds("0")
        (5400.0, 10.0, inf, 0.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _invalid(type(value).__name__)
    if isinstance(value, int | float):
        if value != value:
            raise _invalid("NaN")
        return FOREVER if value < 0 or value > _LONGEST else float(value)
    if len(value) > _MOST_TEXT:
        raise _invalid(value)
    text = value.strip()
    sign, text = text[:1] == "-", text.lstrip("+-")
    if re.fullmatch(r"\d{1,18}(\.\d*)?", text):
        number = float(text)
    elif text and not _PART.sub("", text):
        number = sum(float(count) * _SECONDS[unit] for count, unit in _PART.findall(text))
    else:
        raise _invalid(value)
    return FOREVER if sign and number else number


def _invalid(value: str) -> InvalidInput:
    remedy = 'Write it as "5m", "1h30m", or as a number of seconds.'
    return InvalidInput(f"invalid duration {value[:50]!r}", remedy=remedy)
