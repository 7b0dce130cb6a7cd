"""Options as clients send them: unknown ones are left out with a warning, wrong types are errors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.inference.options import GenerationOptions
from smidgen.inference.setup import FORGOTTEN

SMALLEST_CONTEXT = 4
"""A smaller context that is asked for becomes this."""

DEPRECATED = FORGOTTEN | {
    "embedding_only",
    "num_gqa",
    "numa",
    "rope_frequency_base",
    "rope_frequency_scale",
    "tfs_z",
}
"""Names that older clients send and that change nothing."""

_KINDS = {
    field.name: str(field.type).removesuffix(" | None") for field in fields(GenerationOptions) if field.name != "stop"
}
_MOST = 1 << 63
_WORDS = {"int": "integer", "float": "number", "bool": "boolean"}

log = logging.getLogger("smidgen.serving")


def known_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are understood, with the types that they need.

    Raises:
        InvalidInput: A value has another type.

    Example:
        >>> known_options({"num_ctx": 2, "temperature": 1, "stop": "x", "seed": 7.0, "top_k": None})
        {'num_ctx': 4, 'temperature': 1.0, 'stop': ['x'], 'seed': 7}
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name == "stop":
            found[name] = _texts(value)
        elif name in _KINDS:
            found[name] = _number(name, _KINDS[name], value)
        elif name not in DEPRECATED:
            log.warning("The option %r is unknown and has no effect.", name[:100])
    if found.get("num_ctx", SMALLEST_CONTEXT) < SMALLEST_CONTEXT:
        found["num_ctx"] = SMALLEST_CONTEXT
    return found


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput('option "stop" must be of type array of strings')
    return [text for text in texts if text]


def _number(name: str, kind: str, value: Any) -> Any:
    if kind == "bool" or isinstance(value, bool):
        if kind == "bool" and isinstance(value, bool):
            return value
    elif isinstance(value, int | float) and abs(value) < _MOST:
        if kind == "float":
            return float(value)
        if value == int(value):
            return int(value)
    raise InvalidInput(f'option "{name}" must be of type {_WORDS[kind]}')
