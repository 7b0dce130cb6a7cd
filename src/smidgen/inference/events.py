"""Reads the answers of HTTP servers that send them piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def read_events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read server-sent events; an event of the name "error" comes as a mapping with that key.

    Raises:
        ValueError: One of them is no JSON.

    Example:
        >>> list(read_events(iter(['data: {"a": 1}', "", "data: [DONE]"])))
        [{'a': 1}]
    """
    for line in lines:
        field, _, value = line.partition(":")
        if field == "data" and value.strip() != "[DONE]":
            yield json.loads(value)
        elif field == "error":
            yield {"error": json.loads(value)}


def read_lines(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read one JSON object per line, as Ollama sends them.

    Raises:
        ValueError: One of them is no JSON.

    Example:
        >>> list(read_lines(iter(['{"a": 1}', ""])))
        [{'a': 1}]
    """
    for line in lines:
        if line.strip():
            yield json.loads(line)
