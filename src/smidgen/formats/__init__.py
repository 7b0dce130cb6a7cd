"""Number formats: how weights become bytes, as pure tensor maths.

One file per format, found by its name. A float format stores every weight by itself; a block format stores a
short code per weight and the scales that a block of weights shares, laid out as llama.cpp reads it from GGUF.
"""

from __future__ import annotations

import re

from smidgen import registry
from smidgen.errors import ReferenceNotFound
from smidgen.formats._block import BlockFormat, Scales
from smidgen.formats._format import NumberFormat
from smidgen.formats._grid import Grid

__all__ = ["BlockFormat", "Grid", "NumberFormat", "Scales", "by_ggml_type", "find", "names"]


def names() -> tuple[str, ...]:
    """List the file names of all formats.

    Example:
        >>> "q4_1" in names()
        True
    """
    return registry.names("smidgen.formats")


def find(name: str) -> NumberFormat:
    """Return a format by its name or by the name GGUF gives it (``q4_k``, ``Q4_K``, ``F16``, ``bfloat16``).

    Raises:
        ReferenceNotFound: There is no such format.

    Example:
        >>> find("Q4_1").bits_per_weight, find("bf16").name
        (5.0, 'BF16')
    """
    spelled = re.fullmatch(r"(b?)f(\d+)", name.strip().lower())
    full = f"{spelled[1]}float{spelled[2]}" if spelled else name.strip()
    made: NumberFormat = registry.find("smidgen.formats", full)()
    return made


def by_ggml_type(ggml_type: int) -> NumberFormat:
    """Return the format of a ``gguf.GGMLQuantizationType`` value.

    Raises:
        ReferenceNotFound: smidgen does not know this type.

    Example:
        >>> by_ggml_type(2).name
        'Q4_0'
    """
    known = [find(name) for name in names()]
    for candidate in known:
        if candidate.ggml_type == int(ggml_type):
            return candidate
    listing = ", ".join(f"{candidate.name} ({candidate.ggml_type})" for candidate in known)
    raise ReferenceNotFound(f"There is no number format of GGML type {int(ggml_type)}.", remedy=f"Known: {listing}.")
