"""Compiled loops that turn packed rows into floats, one for each way of laying codes into bytes.

Each takes bytes ``[rows, bytes per row]`` and writes float32 ``[rows, columns]``; rows do not need one another, so
that threads may share them out.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from smidgen.compiled import Array, compiled, inlined

BYTE = np.uint64(8)


@cache
def halves() -> Array:
    """Return every float16 as float32, by its two bytes as a number, ``[65536]``.

    Example:
        >>> float(halves()[0x3C00]), float(halves()[0xC000])
        (1.0, -2.0)
    """
    with np.errstate(invalid="ignore"):
        return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


@cache
def powers() -> Array:
    """Return 2**-n of every signed byte n, by the byte as a number, float32 ``[256]``.

    Example:
        >>> float(powers()[3]), float(powers()[255])
        (0.125, 2.0)
    """
    with np.errstate(over="ignore"):
        found: Array = np.ldexp(np.float32(1), -np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int32))
    return found


@cache
def spread() -> Array:
    """Return every byte with its bits in bytes of their own, the lowest first, uint64 ``[256]``.

    Example:
        >>> hex(spread()[0b101])
        '0x10001'
    """
    bits = np.arange(256, dtype=np.uint64)[:, None] >> np.arange(8, dtype=np.uint64) & np.uint64(1)
    found: Array = (bits << (np.arange(8, dtype=np.uint64) * BYTE)).sum(1, dtype=np.uint64)
    return found


@inlined
def _word(row: Array, begin: int, count: int) -> np.uint64:
    """Return some bytes as a number, the first one lowest."""
    word = np.uint64(0)
    for byte in range(count):
        word |= np.uint64(row[begin + byte]) << (BYTE * np.uint64(byte))
    return word


@compiled
def groups(packed: Array, layout: Array, scales: Array, first: Array, second: Array, out: Array) -> None:
    """Read groups of one or two scales and dense codes: ``scale * first[code] + offset * second[code]``.

    Args:
        packed: See above.
        layout: Weights per group, bits per code, bytes per scale, count of scales.
        scales: What a scale's bytes stand for.
        first: What a code counts under the first scale, ``[codes]``.
        second: The same under the second scale.
        out: Written.
    """
    size, bits, width, count = layout
    shift, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    head = width * count
    step = head + size * bits // 8
    for number in range(len(packed)):
        row, values = packed[number], out[number]
        for group in range(values.shape[0] // size):
            at, place = group * step, group * size
            scale = scales[np.int64(_word(row, at, width))]
            offset = scales[np.int64(_word(row, at + width, width))] if count == 2 else np.float32(0)
            at += head
            for _ in range(size // 8):
                word = _word(row, at, bits)
                if count == 2:
                    for each in range(8):
                        code = np.int64((word >> (shift * np.uint64(each))) & mask)
                        values[place + each] = scale * first[code] + offset * second[code]
                else:
                    for each in range(8):
                        values[place + each] = scale * first[np.int64((word >> (shift * np.uint64(each))) & mask)]
                at += bits
                place += 8


@compiled
def evenly(packed: Array, layout: Array, scales: Array, lowest: float, out: Array) -> None:
    """Read groups of one scale and codes of 4 or 8 bits for evenly spaced levels: ``scale * (code + lowest)``.

    Without a table, so that many codes are computed at once.

    Args:
        packed: See above.
        layout: Weights per group, bits per code, bytes of the scale.
        scales: What the scale's bytes stand for.
        lowest: What code 0 stands for.
        out: Written.
    """
    size, bits, width = layout
    step, least = width + size * bits // 8, np.float32(lowest)
    for number in range(len(packed)):
        row, values = packed[number], out[number]
        for group in range(values.shape[0] // size):
            at = group * step
            scale = scales[np.int64(_word(row, at, width))]
            codes, found = row[at + width : at + step], values[group * size : (group + 1) * size]
            if bits == 8:
                for place in range(size):
                    found[place] = scale * (np.float32(np.int32(codes[place])) + least)
            else:
                for place in range(size // 2):
                    pair = codes[place]
                    found[2 * place] = scale * (np.float32(np.int32(pair & 15)) + least)
                    found[2 * place + 1] = scale * (np.float32(np.int32(pair >> 4)) + least)


@compiled
def looked_up(packed: Array, layout: Array, scales: Array, table: Array, out: Array) -> None:
    """Read groups of one float16 scale and codes of 4 or 8 bits for any levels: ``scale * table[code]``.

    Args:
        packed: See above.
        layout: Weights per group, bits per code.
        scales: See `halves`.
        table: What a code stands for, ``[codes]``.
        out: Written.
    """
    size, bits = layout
    step = 2 + size * bits // 8
    for number in range(len(packed)):
        row, values = packed[number], out[number]
        for group in range(values.shape[0] // size):
            at = group * step
            scale = scales[np.int64(_word(row, at, 2))]
            codes, found = row[at + 2 : at + step], values[group * size : (group + 1) * size]
            if bits == 8:
                for place in range(size):
                    found[place] = scale * table[codes[place]]
            else:
                for place in range(size // 2):
                    pair = codes[place]
                    found[2 * place] = scale * table[pair & 15]
                    found[2 * place + 1] = scale * table[pair >> 4]


@compiled
def codebooks(packed: Array, bits: int, scales: Array, out: Array) -> None:
    """Read rows of a codebook of 2**bits float16 values and dense codes.

    Args:
        packed: See above.
        bits: Bits of a code.
        scales: See `halves`.
        out: Written.
    """
    shift, mask = np.uint64(bits), np.uint64((1 << bits) - 1)
    table = np.empty(1 << bits, np.float32)
    for number in range(len(packed)):
        row, values = packed[number], out[number]
        for entry in range(1 << bits):
            table[entry] = scales[np.int64(_word(row, 2 * entry, 2))]
        at = 2 << bits
        if bits == 4:
            for place in range(values.shape[0] // 2):
                pair = row[at + place]
                values[2 * place] = table[pair & 15]
                values[2 * place + 1] = table[pair >> 4]
            continue
        for eight in range(values.shape[0] // 8):
            word = _word(row, at, bits)
            for each in range(8):
                values[8 * eight + each] = table[np.int64((word >> (shift * np.uint64(each))) & mask)]
            at += bits


@compiled
def planes(packed: Array, layout: Array, scales: Array, apart: Array, levels: Array, out: Array) -> None:
    """Read groups of a float16 scale and bit planes, the weightiest plane first.

    Args:
        packed: See above.
        layout: Weights per group, planes stored, planes read.
        scales: See `halves`.
        apart: See `spread`.
        levels: What a code stands for whose planes that are not read are zeros, ``[2**planes]``.
        out: Written.
    """
    size, stored, depth = layout
    width, one = size // 8, np.uint64(1)
    for number in range(len(packed)):
        row, values = packed[number], out[number]
        for group in range(values.shape[0] // size):
            at = group * (2 + width * stored)
            scale = scales[np.int64(_word(row, at, 2))]
            for byte in range(width):
                word = np.uint64(0)
                for plane in range(depth):
                    word = (word << one) | apart[row[at + 2 + plane * width + byte]]
                for each in range(8):
                    code = np.int64((word >> (BYTE * np.uint64(each))) & np.uint64(255)) << (stored - depth)
                    values[group * size + 8 * byte + each] = scale * levels[code]


@compiled
def digits(packed: Array, size: int, scales: Array, out: Array) -> None:
    """Read groups of a float16 scale and ternary digits, five to a byte as `_ternary.join_digits` lays them.

    Args:
        packed: See above.
        size: Weights per group.
        scales: See `halves`.
        out: Written.
    """
    width = (size + 4) // 5
    for number in range(len(packed)):
        row, values = packed[number], out[number]
        for group in range(values.shape[0] // size):
            at = group * (2 + width)
            scale = scales[np.int64(_word(row, at, 2))]
            for byte in range(width):
                rest = np.int64(row[at + 2 + byte])
                for each in range(min(5, size - 5 * byte)):
                    product = rest * 3
                    values[group * size + 5 * byte + each] = scale * np.float32((product >> 8) - 1)
                    rest = product & 255


@compiled
def scattered(packed: Array, starts: Array, unit: int, gathered: Array, out: Array) -> None:
    """Put units of weights that lie tier by tier where a map of two bits each, at the row's beginning, says.

    Args:
        packed: See above.
        starts: Where each tier begins in ``gathered``, ``[3]``.
        unit: Weights per unit.
        gathered: ``[rows, columns]``.
        out: Written.
    """
    at = np.empty(len(starts), np.int64)
    for number in range(len(packed)):
        row, values, source = packed[number], out[number], gathered[number]
        at[:] = starts
        for place in range(values.shape[0] // unit):
            tier = (np.int64(row[place // 4]) >> (2 * (place % 4))) & 3
            for each in range(unit):
                values[place * unit + each] = source[at[tier] + each]
            at[tier] += unit


@compiled
def products(weights: Array, inputs: Array, out: Array) -> None:
    """Write the product of inputs and weights, ``[tokens, rows]``.

    Args:
        weights: ``[rows, columns]``.
        inputs: ``[tokens, columns]``.
        out: Written.
    """
    for row in range(len(weights)):
        for token in range(len(inputs)):
            total = np.float32(0)
            for column in range(weights.shape[1]):
                total += weights[row, column] * inputs[token, column]
            out[token, row] = total
