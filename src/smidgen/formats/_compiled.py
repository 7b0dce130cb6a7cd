"""The searches of `_search`, one group of weights after another, compiled on first use.

A group stays in the processor's first cache while all its candidates are tried. Arrays are float32: weights
``[groups, size]``; importance ``[rows, parts, size]``, where ``parts`` groups make up a row of weights and ``rows``
is 1 where all rows share one importance. The residual, not the weight, enters the sums, which keeps them exact
enough at 8 bits.
"""

from __future__ import annotations

import numpy as np

from smidgen.compiled import Array, compiled, inlined

TINY = np.float32(2.0**-25)  # half of the smallest positive float16: below it every stored scale rounds to zero
DOUBT = np.float32(1 + 1e-6)  # what cancels in the sums may be rounding; a candidate that fits without it goes first
NOISE = np.float32(1e-12)  # exact fits differ by this much; the candidate named first wins among them
LEAST = np.float32(1e-30)
SLACK = np.float32(1e-6)
ZERO, ONE, TWO, INFINITY = np.float32(0), np.float32(1), np.float32(2), np.float32(np.inf)
HALVES, LAST_HALF = np.float32(256), np.float32(511)


@inlined
def table_index(scaled: np.float32) -> np.int32:
    """Return where a number lies in the tables of `Grid`; NaN lies at the beginning, never outside."""
    half = scaled * TWO + HALVES
    half = half if half > ZERO else ZERO
    return np.int32(half if half < LAST_HALF else LAST_HALF)


@compiled
def symmetric(
    weights: Array, importance: Array, levels: Array, snapped: Array, multipliers: Array, refits: int, found: Array
) -> None:
    """Write the best scale of every group, ``[groups]``; see `_search.symmetric`.

    Args:
        weights: See above.
        importance: See above.
        levels: ``[codes]``, see `Grid.values`.
        snapped: See `Grid.snapped`.
        multipliers: ``[candidates]``.
        refits: How often the best scale rounds afresh.
        found: Written.
    """
    rows, parts, size = importance.shape
    lowest, highest = levels[0], levels[-1]
    for group in range(len(weights)):
        values, counts = weights[group], importance[(group // parts) % rows, group % parts]
        high = low = values[0]
        for place in range(size):
            high, low = max(high, values[place]), min(low, values[place])
        extreme = high if high >= -low else low
        best, chosen = INFINITY, ZERO
        attempts = 0 if abs(extreme) < TINY else len(multipliers) + refits
        for attempt in range(attempts):
            if attempt >= len(multipliers) and chosen == ZERO:
                break
            multiplier = multipliers[attempt] if attempt < len(multipliers) else ONE / chosen
            unit = multiplier / extreme
            square = slope = norm = ZERO
            if len(snapped) == 0:
                for place in range(size):
                    scaled = values[place] * unit
                    level = min(max(np.rint(scaled), lowest), highest)
                    counted = (scaled - level) * counts[place]
                    square += (scaled - level) * counted
                    slope += counted * level
                    norm += level * level * counts[place]
            else:
                for place in range(size):
                    scaled = values[place] * unit
                    level = snapped[table_index(scaled)]
                    counted = (scaled - level) * counts[place]
                    square += (scaled - level) * counted
                    slope += counted * level
                    norm += level * level * counts[place]
            gain = slope / max(norm, LEAST)
            value = (square * DOUBT - slope * gain) / (multiplier * multiplier)
            if value < best - NOISE:
                best, chosen = value, (ONE + gain) / multiplier
        found[group] = chosen * extreme


@compiled
def power(
    weights: Array, importance: Array, levels: Array, snapped: Array, steps: Array, start: Array, found: Array
) -> None:
    """Write the exponent of every group's best scale, ``[groups]``; see `_search.power`.

    Args:
        weights: See above.
        importance: See above.
        levels: ``[codes]``, see `Grid.values`.
        snapped: See `Grid.snapped`.
        steps: What is taken from the exponent at the start.
        start: ``[groups]``, the exponent of the first candidate.
        found: Written.
    """
    rows, parts, size = importance.shape
    lowest, highest = levels[0], levels[-1]
    for group in range(len(weights)):
        values, counts = weights[group], importance[(group // parts) % rows, group % parts]
        best = INFINITY
        found[group] = start[group]
        unit = np.float32(2.0 ** -np.float64(start[group]))
        for step in steps:
            share = np.float32(2.0 ** np.float64(step))
            total = ZERO
            for place in range(size):
                scaled = values[place] * unit * share
                if len(snapped) == 0:
                    level = min(max(np.rint(scaled), lowest), highest)
                else:
                    level = snapped[table_index(scaled)]
                total += (scaled - level) * (scaled - level) * counts[place]
            total /= share * share
            if total < best:
                best, found[group] = total, start[group] - step


@compiled
def affine(
    weights: Array,
    importance: Array,
    top: float,
    candidates: Array,
    refits: int,
    nonpositive: bool,
    found: Array,
) -> None:
    """Write the best scale and offset of every group, ``[2, groups]``; see `_search.affine`.

    Args:
        weights: See above.
        importance: See above.
        top: The highest level.
        candidates: ``[candidates, 2]``, multiplier and shift.
        refits: How often the best pair rounds afresh.
        nonpositive: Whether the offset must not be above zero.
        found: Written.
    """
    rows, parts, size = importance.shape
    for group in range(len(weights)):
        values, counts = weights[group], importance[(group // parts) % rows, group % parts]
        high = low = values[0]
        total = ZERO
        for place in range(size):
            high, low = max(high, values[place]), min(low, values[place])
            total += counts[place]
        if nonpositive:
            low = min(low, ZERO)
        span = high - low
        best, scale, offset = INFINITY, ZERO, ZERO
        attempts = 0 if span < TINY else len(candidates) + refits
        for attempt in range(attempts):
            if attempt >= len(candidates) and scale == ZERO:
                break
            if attempt < len(candidates):
                multiplier, shift = candidates[attempt, 0], candidates[attempt, 1]
            else:
                multiplier, shift = ONE / scale, -offset / scale
            unit = multiplier / span
            rest_sum = rest_square = rest_level = level_sum = level_square = ZERO
            for place in range(size):
                scaled = (values[place] - low) * unit + shift
                level = min(max(np.rint(scaled), ZERO), top)
                rest = scaled - level
                counted, weighted = rest * counts[place], level * counts[place]
                rest_sum += counted
                rest_square += rest * counted
                rest_level += counted * level
                level_sum += weighted
                level_square += weighted * level
            free = total * level_square - level_sum * level_sum
            steep = ZERO
            if free > SLACK * total * level_square:
                steep = (total * rest_level - level_sum * rest_sum) / free
            lift = (rest_sum - steep * level_sum) / total
            limit = shift - low * unit
            if nonpositive and lift > limit:
                lift = limit
                steep = (rest_level - lift * level_sum) / max(level_square, LEAST)
            value = rest_square * DOUBT - TWO * (steep * rest_level + lift * rest_sum)
            value += steep * steep * level_square + TWO * steep * lift * level_sum + lift * lift * total
            value /= multiplier * multiplier
            if value < best - NOISE:
                best, scale, offset = value, (ONE + steep) / multiplier, (lift - shift) / multiplier
        found[0, group] = scale * span if span >= TINY else ZERO
        found[1, group] = low + offset * span if span >= TINY else low


@compiled
def error(weights: Array, importance: Array, scale: Array, offset: Array, top: float, found: Array) -> None:
    """Write Σ importance·(weight − decoded)² of every group, decoding ``scale * level + offset``, levels 0 … top.

    Args:
        weights: See above.
        importance: See above.
        scale: ``[groups]``.
        offset: ``[groups]``.
        top: The highest level.
        found: ``[groups]``, written.
    """
    rows, parts, size = importance.shape
    for group in range(len(weights)):
        values, counts = weights[group], importance[(group // parts) % rows, group % parts]
        unit, least = scale[group], offset[group]
        inverse = ZERO if unit == ZERO else ONE / unit
        total = ZERO
        for place in range(size):
            level = min(max(np.rint((values[place] - least) * inverse), ZERO), top)
            rest = level * unit + least - values[place]
            total += rest * rest * counts[place]
        found[group] = total


@compiled
def common_unit(
    values: Array, importance: Array, lowest: float, highest: float, multipliers: Array, found: Array
) -> None:
    """Write the unit of every row whose integer multiples lie nearest to its values; see `_search.common_unit`.

    Args:
        values: ``[rows, n]``.
        importance: Same shape.
        lowest: The least multiple.
        highest: The greatest multiple.
        multipliers: ``[candidates]``.
        found: ``[rows]``, written.
    """
    for row in range(len(values)):
        high = low = values[row, 0]
        total = ZERO
        for place in range(values.shape[1]):
            total += importance[row, place]
            high, low = max(high, values[row, place]), min(low, values[row, place])
        extreme = high if high >= -low else low
        best, chosen = INFINITY, ZERO
        for attempt in range(0 if abs(extreme) < TINY else len(multipliers)):
            multiplier = multipliers[attempt]
            unit = multiplier / extreme
            square = slope = norm = ZERO
            for place in range(values.shape[1]):
                scaled = values[row, place] * unit
                multiple = min(max(np.rint(scaled), lowest), highest)
                counted = (scaled - multiple) * importance[row, place]
                square += (scaled - multiple) * counted
                slope += counted * multiple
                norm += multiple * multiple * importance[row, place]
            gain = slope / max(norm, LEAST)
            value = (square * DOUBT - slope * gain) / (multiplier * multiplier)
            if value < best - NOISE * total:
                best, chosen = value, (ONE + gain) / multiplier
        found[row] = chosen * extreme


@compiled
def neighbours(
    weights: Array,
    importance: Array,
    levels: Array,
    snapped: Array,
    unit: Array,
    bounds: Array,
    steps: Array,
    integers: Array,
    sums: Array,
) -> None:
    """Move every group's integer scale to the best of its neighbours; see `_super.SymmetricSuperBlock`.

    Args:
        weights: See above.
        importance: See above.
        levels: ``[codes]``, see `Grid.values`.
        snapped: See `Grid.snapped`.
        unit: ``[groups]``, the super-scale of the group's block.
        bounds: Least and greatest integer scale.
        steps: What is added to the integer, the present one first.
        integers: ``[groups]``, read and overwritten.
        sums: ``[3, groups]``, written: error, Σ h·level², Σ h·level·weight.
    """
    rows, parts, size = importance.shape
    lowest, highest = levels[0], levels[-1]
    for group in range(len(weights)):
        values, counts = weights[group], importance[(group // parts) % rows, group % parts]
        present, best = integers[group], INFINITY
        for step in steps:
            tried = min(max(present + step, bounds[0]), bounds[1])
            scale = unit[group] * tried
            inverse = ZERO if scale == ZERO else ONE / scale
            value = square = product = ZERO
            for place in range(size):
                scaled = values[place] * inverse
                if len(snapped) == 0:
                    level = min(max(np.rint(scaled), lowest), highest)
                else:
                    level = snapped[table_index(scaled)]
                rest, weighted = level * scale - values[place], level * counts[place]
                value += rest * rest * counts[place]
                square += level * weighted
                product += weighted * values[place]
            if value < best:
                best, integers[group] = value, tried
                sums[0, group], sums[1, group], sums[2, group] = value, square, product


@compiled
def neighbours_with_minimum(
    weights: Array,
    importance: Array,
    top: float,
    units: Array,
    highest: float,
    moves: Array,
    integers: Array,
    sums: Array,
) -> None:
    """Move every group's integer scale and minimum to the best neighbours; see `_super.AffineSuperBlock`.

    Args:
        weights: See above.
        importance: See above.
        top: The highest level.
        units: ``[2, groups]``, d and dmin of the group's block.
        highest: Greatest integer.
        moves: ``[moves, 2]``: what is added to the scale's integer, by how many levels the minimum is lowered.
        integers: ``[2, groups]``, scales and minimums, read and overwritten.
        sums: ``[6, groups]``, written: error, Σ h·level², Σ h·level, Σ h·level·weight, Σ h, Σ h·weight.
    """
    rows, parts, size = importance.shape
    for group in range(len(weights)):
        values, counts = weights[group], importance[(group // parts) % rows, group % parts]
        total = weight = ZERO
        for place in range(size):
            total += counts[place]
            weight += counts[place] * values[place]
        sums[4, group], sums[5, group] = total, weight
        minimum_unit = units[1, group]
        inverse_minimum = ZERO if minimum_unit == ZERO else ONE / minimum_unit
        present, floor, best = integers[0, group], integers[1, group], INFINITY
        for move in range(len(moves)):
            tried = min(max(present + moves[move, 0], ZERO), highest)
            scale = units[0, group] * tried
            inverse = ZERO if scale == ZERO else ONE / scale
            base = min(max(floor + np.rint(moves[move, 1] * inverse_minimum * scale), ZERO), highest)
            least = minimum_unit * base
            value = drift = square = level_sum = product = ZERO
            for place in range(size):
                level = min(max(np.rint((values[place] + least) * inverse), ZERO), top)
                rest = level * scale - least - values[place]
                counted, weighted = rest * counts[place], level * counts[place]
                drift += counted
                value += rest * counted
                level_sum += weighted
                square += level * weighted
                product += weighted * values[place]
            moved = min(max(base + np.rint(drift / total * inverse_minimum), ZERO), highest)
            shift = (moved - base) * minimum_unit
            value += shift * shift * total - TWO * shift * drift
            if value < best:
                best, integers[0, group], integers[1, group] = value, tried, moved
                sums[0, group], sums[1, group], sums[2, group], sums[3, group] = value, square, level_sum, product
