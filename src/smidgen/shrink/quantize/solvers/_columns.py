"""Error compensation inside one block of columns, many rows side by side, compiled on first use."""

from __future__ import annotations

import numpy as np

from smidgen.compiled import Array, compiled
from smidgen.formats._compiled import table_index

LANES = 128
"""Rows worked on side by side: their share of a block stays in the processor's first caches."""
ZERO, ONE = np.float32(0), np.float32(1)


@compiled
def compensate(
    work: Array,
    factor: Array,
    scale: Array,
    minimum: Array,
    levels: Array,
    table: Array,
    codes: Array,
    errors: Array,
    first: int,
    last: int,
) -> None:
    """Choose the codes of a block, every column repairing in the block what the columns before it spoilt.

    The rows do not depend on one another. A column is one contiguous row of the arrays.

    Args:
        work: float32 ``[columns, rows]``, the block's weights; overwritten.
        factor: float32 ``[columns, columns]``, the block's part of U.
        scale: float32 ``[groups, rows]``.
        minimum: Same shape.
        levels: float32, see `formats.Grid.values`.
        table: uint8, see `formats.Grid.lookup`.
        codes: uint8 ``[columns, rows]``, written.
        errors: float32 ``[columns, rows]``, written: what later columns have to repair, divided by U's diagonal.
        first: First of the rows to work on.
        last: The row after the last of them.
    """
    columns = len(work)
    size = columns // len(scale)
    lowest, highest = levels[0], levels[-1]
    for start in range(first, last, LANES):
        end = min(start + LANES, last)
        for column in range(columns):
            values, found, rest = work[column, start:end], codes[column, start:end], errors[column, start:end]
            units, least = scale[column // size, start:end], minimum[column // size, start:end]
            inverse = ONE / factor[column, column]
            for row in range(len(values)):
                scaled = ZERO if units[row] == ZERO else (values[row] + least[row]) / units[row]
                if len(table) == 0:
                    level = min(max(np.rint(scaled), lowest), highest)
                    found[row] = np.uint8(level - lowest)
                else:
                    found[row] = table[table_index(scaled)]
                    level = levels[found[row]]
                rest[row] = (values[row] - (level * units[row] - least[row])) * inverse
            for later in range(column + 1, columns):
                repaired, share = work[later, start:end], factor[column, later]
                for row in range(len(rest)):
                    repaired[row] -= rest[row] * share
