"""Compiled loops and tables of formats that store several weights as one code."""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement

import numpy as np

from smidgen.compiled import Array, compiled, inlined
from smidgen.formats._loops import _word

LANES = 8
"""Weights of a point of the lattice."""
LONGEST = 12.0
"""Squared length that kinds of points have at most: all shorter ones, and the first of this one until 256 are there."""
SHARES = np.array([0.8, 0.9, 1.0, 1.12], np.float32)
"""Scales that are tried, as shares of the root of the mean square."""


@cache
def magnitudes() -> Array:
    """Return the sizes of the coordinates of 256 kinds of points of E8, float32 ``[256, 8]``.

    Halves of odd numbers, in every order, of squared length 10 at most (227 of them), and 29 of those of 12 in the
    order in which they are written here. With signs whose product makes the sum even they are points of D8 + ½.

    Example:
        >>> magnitudes().shape, float(magnitudes()[0].sum()), float(np.square(magnitudes()).sum(1).max())
        ((256, 8), 4.0, 12.0)
    """
    found: dict[tuple[float, ...], float] = {}
    for chosen in combinations_with_replacement((0.5, 1.5, 2.5), LANES):
        length = sum(value * value for value in chosen)
        if length <= LONGEST:
            found |= dict.fromkeys(_orders(chosen), length)
    ordered = sorted(found, key=lambda point: (found[point], point))
    return np.array(ordered[:256], np.float32)


def _orders(values: tuple[float, ...]) -> set[tuple[float, ...]]:
    """Return every order of a few values, each once."""
    if not values:
        return {()}
    return {
        (value, *rest)
        for place, value in enumerate(values)
        if value not in values[:place]
        for rest in _orders(values[:place] + values[place + 1 :])
    }


@cache
def by_lane() -> Array:
    """Return `magnitudes` coordinate by coordinate, so that all kinds are compared side by side, ``[8, 256]``."""
    return np.ascontiguousarray(magnitudes().T)


@cache
def odd() -> Array:
    """Return for each of the 256 kinds whether an odd count of its coordinates must be negative, int64 ``[256]``."""
    found: Array = magnitudes().sum(1).astype(np.int64) % 2
    return found


@inlined
def _cheapest(counts: Array, size: Array, kind: Array) -> int:
    """Return the coordinate whose sign costs least to turn."""
    found = 0
    for lane in range(1, 8):
        if counts[lane] * size[lane] * kind[lane] < counts[found] * size[found] * kind[found]:
            found = lane
    return found


@compiled
def nearest_points(
    weights: Array, importance: Array, sizes: Array, parity: Array, scale: float, codes: Array, out: Array
) -> None:
    """Write the codes of the lattice points nearest to groups of 8 weights, and the points themselves.

    A code holds the kind of point (8 bits), the signs of the first seven coordinates, and whether ¼ is added or taken
    away; the eighth sign follows from the sum being even.

    Args:
        weights: ``[vectors, 8]``.
        importance: Same shape.
        sizes: See `by_lane`.
        parity: See `odd`.
        scale: What the weights are divided by.
        codes: uint16 ``[vectors]``, written.
        out: ``[vectors, 8]``, written: the points before the scale.
    """
    inverse = np.float32(0) if scale == 0 else np.float32(1) / np.float32(scale)
    size, total, cheapest = np.empty(8, np.float32), np.empty(256, np.float32), np.empty(256, np.float32)
    for vector in range(len(weights)):
        counts = importance[vector]
        best = np.float32(np.inf)
        chosen = signs = shift = 0
        for side in range(2):
            moved = np.float32(0.25) if side == 0 else np.float32(-0.25)
            negative = odd_count = 0
            for lane in range(8):
                lowered = weights[vector, lane] * inverse - moved
                if lowered < 0:
                    negative |= 1 << lane
                    odd_count ^= 1
                size[lane] = abs(lowered)
            # Kind by kind side by side: what each is off, and what turning the cheapest of its signs adds.
            total[:], cheapest[:] = np.float32(0), np.float32(np.inf)
            for lane in range(8):
                count, fourfold = counts[lane], np.float32(4) * counts[lane] * size[lane]
                for kind in range(256):
                    rest = size[lane] - sizes[lane, kind]
                    total[kind] += count * rest * rest
                    turned = fourfold * sizes[lane, kind]
                    cheapest[kind] = turned if turned < cheapest[kind] else cheapest[kind]
            for kind in range(256):
                total[kind] += cheapest[kind] if parity[kind] != odd_count else np.float32(0)
            nearest = -1
            for kind in range(256):
                if total[kind] < best:
                    best, nearest = total[kind], kind
            if nearest >= 0:
                chosen, signs, shift = nearest, negative, side
                if parity[nearest] != odd_count:
                    signs = negative ^ (1 << _cheapest(counts, size, sizes[:, nearest]))
        codes[vector] = chosen | ((signs & 127) << 8) | (shift << 15)
        for lane in range(8):
            coordinate = -sizes[lane, chosen] if (signs >> lane) & 1 else sizes[lane, chosen]
            out[vector, lane] = coordinate + (np.float32(0.25) if shift == 0 else np.float32(-0.25))


@compiled
def fitted_scales(weights: Array, importance: Array, sizes: Array, parity: Array, shares: Array, found: Array) -> None:
    """Write the scale of every group with which the lattice points lie nearest to its weights.

    Args:
        weights: ``[groups, vectors, 8]``.
        importance: Same shape.
        sizes: See `by_lane`.
        parity: See `odd`.
        shares: Scales to try, see `SHARES`.
        found: ``[groups]``, written.
    """
    codes, points_found = np.empty(weights.shape[1], np.uint16), np.empty(weights.shape[1:], np.float32)
    for group in range(len(weights)):
        values, counts = weights[group], importance[group]
        total = power = np.float32(0)
        for vector in range(len(values)):
            for lane in range(8):
                total += counts[vector, lane]
                power += counts[vector, lane] * values[vector, lane] * values[vector, lane]
        spread = np.sqrt(power / total)
        best, found[group] = np.float32(np.inf), spread
        for share in shares:
            nearest_points(values, counts, sizes, parity, spread * share, codes, points_found)
            product = square = np.float32(0)
            for vector in range(len(values)):
                for lane in range(8):
                    weighted = counts[vector, lane] * points_found[vector, lane]
                    product += weighted * values[vector, lane]
                    square += weighted * points_found[vector, lane]
            error = power - product * product / square
            if error < best:
                best, found[group] = error, product / square


@compiled
def encoded_points(
    weights: Array, importance: Array, sizes: Array, parity: Array, scales: Array, codes: Array, out: Array
) -> None:
    """Write the codes of groups whose scales are known, and the points before the scale.

    Args:
        weights: ``[groups, vectors, 8]``.
        importance: Same shape.
        sizes: See `by_lane`.
        parity: See `odd`.
        scales: ``[groups]``.
        codes: uint16 ``[groups, vectors]``, written.
        out: ``[groups, vectors, 8]``, written.
    """
    for group in range(len(weights)):
        nearest_points(weights[group], importance[group], sizes, parity, scales[group], codes[group], out[group])


@compiled
def points(packed: Array, group: int, scales: Array, sizes: Array, parity: Array, out: Array) -> None:
    """Read groups of a float16 scale and the codes of lattice points of 8 weights.

    Args:
        packed: uint8 ``[rows, bytes per row]``.
        group: Weights per scale.
        scales: See `_loops.halves`.
        sizes: See `magnitudes`.
        parity: See `odd`.
        out: float32 ``[rows, columns]``, written.
    """
    for number in range(len(packed)):
        row, values, at = packed[number], out[number], 0
        for place in range(0, values.shape[0], 8):
            if place % group == 0:
                scale = scales[np.int64(_word(row, at, 2))]
                at += 2
            code = np.int64(_word(row, at, 2))
            at += 2
            kind, signs = code & 255, (code >> 8) & 127
            counted = signs ^ (signs >> 4)
            counted ^= counted >> 2
            counted ^= counted >> 1
            signs |= ((counted & 1) ^ parity[kind]) << 7
            moved = np.float32(-0.25) if code >> 15 else np.float32(0.25)
            for lane in range(8):
                value = -sizes[kind, lane] if (signs >> lane) & 1 else sizes[kind, lane]
                values[place + lane] = scale * (value + moved)


@compiled
def nearest_entries(weights: Array, importance: Array, codebook: Array, codes: Array) -> None:
    """Write the number of the entry nearest to every vector, by its weighted squared distance.

    Args:
        weights: ``[vectors, size]``.
        importance: Same shape.
        codebook: ``[entries, size]``.
        codes: uint8 ``[vectors]``, written.
    """
    for vector in range(len(weights)):
        best = np.float32(np.inf)
        for entry in range(len(codebook)):
            total = np.float32(0)
            for lane in range(weights.shape[1]):
                rest = weights[vector, lane] - codebook[entry, lane]
                total += importance[vector, lane] * rest * rest
            if total < best:
                best = total
                codes[vector] = entry


@compiled
def entries(packed: Array, layout: Array, scales: Array, codebook: Array, out: Array) -> None:
    """Read groups of a float16 scale and the codes of entries of a codebook.

    Args:
        packed: uint8 ``[rows, bytes per row]``.
        layout: Weights per group, bits per code, bytes at a row's beginning that are not its own.
        scales: See `_loops.halves`.
        codebook: ``[entries, size]``.
        out: float32 ``[rows, columns]``, written.
    """
    group, bits, begin = layout
    size, mask = codebook.shape[1], np.uint64((1 << bits) - 1)
    for number in range(len(packed)):
        row, values, at, place = packed[number], out[number], begin, 0
        while place < values.shape[0]:
            scale = scales[np.int64(_word(row, at, 2))]
            at += 2
            for _ in range(group // (8 * size)):
                word = _word(row, at, bits)
                at += bits
                for each in range(8):
                    code = np.int64((word >> np.uint64(each * bits)) & mask)
                    for lane in range(size):
                        values[place + lane] = scale * codebook[code, lane]
                    place += size
