"""Number formats: how weights become bytes, as pure tensor maths.

One file per format, found by its name. A float format stores every weight by itself; a block format stores a
short code per weight and the scales that a block of weights shares. Formats with a `ggml_type` are laid out as
llama.cpp reads them from GGUF; the others, which have parameters, only smidgen itself reads.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from smidgen import registry
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.formats._block import BlockFormat, Scales
from smidgen.formats._codebook import CodebookFormat, TieredFormat, VectorFormat, nearest
from smidgen.formats._format import NumberFormat
from smidgen.formats._grid import Grid
from smidgen.formats._multiply import multiply, multiply_back

__all__ = [
    "BlockFormat",
    "CodebookFormat",
    "Grid",
    "NumberFormat",
    "Scales",
    "TieredFormat",
    "VectorFormat",
    "by_ggml_type",
    "find",
    "multiply",
    "multiply_back",
    "names",
    "nearest",
]


def names() -> tuple[str, ...]:
    """List the file names of all formats.

    Example:
        >>> "q4_1" in names()
        True
    """
    return registry.names("smidgen.formats")


def find(name: str) -> NumberFormat:
    """Return a format by its name or by the name GGUF gives it (``q4_k``, ``Q4_K``, ``F16``, ``bfloat16``).

    Formats with parameters take them behind a colon: ``integer:bits=4,group=32``.

    Raises:
        ReferenceNotFound: There is no such format, or it has no such parameter.
        InvalidInput: A parameter's value is out of range.

    Example:
        >>> find("Q4_1").bits_per_weight, find("bf16").name, find("integer:bits=4,group=32").bits_per_weight
        (5.0, 'BF16', 4.5)
    """
    head, _, given = name.strip().partition(":")
    spelled = re.fullmatch(r"(b?)f(\d+)", head.lower())
    kind = registry.find("smidgen.formats", f"{spelled[1]}float{spelled[2]}" if spelled else head)
    made: NumberFormat = kind(**_parameters(kind, given))
    return made


def _parameters(kind: type[Any], given: str) -> dict[str, Any]:
    """Read ``bits=4,group=32`` as fields of a format."""
    known: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(kind)}
    found: dict[str, Any] = {}
    for part in filter(None, given.split(",")):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise ReferenceNotFound.among(f"parameter of {kind.__name__}", name, list(known))
        words = {"true": True, "false": False} if isinstance(known[name], bool) else {}
        try:
            found[name] = words[value.lower()] if words else int(value) if isinstance(known[name], int) else value
        except (KeyError, ValueError):
            raise InvalidInput(f"The parameter {name} of a number format cannot be {value!r}.") from None
    return found


def by_ggml_type(ggml_type: int) -> NumberFormat:
    """Return the format of a ``gguf.GGMLQuantizationType`` value.

    Raises:
        ReferenceNotFound: smidgen does not know this type.

    Example:
        >>> by_ggml_type(2).name
        'Q4_0'
    """
    known = [each for each in map(find, names()) if each.ggml_type is not None]
    for candidate in known:
        if candidate.ggml_type == int(ggml_type):
            return candidate
    listing = ", ".join(f"{candidate.name} ({candidate.ggml_type})" for candidate in known)
    raise ReferenceNotFound(f"There is no number format of GGML type {int(ggml_type)}.", remedy=f"Known: {listing}.")
