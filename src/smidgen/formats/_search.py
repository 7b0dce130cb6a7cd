"""Searches for the scale (and offset) of many groups of weights at once.

All tensors here are [group_size, groups]: a group is a column, so that sums over a group run at full memory
speed. Every candidate rounds the weights to levels, then takes the scale that fits those levels best in closed
form; the residual, not the weight, enters the sums, which keeps them exact enough at 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TINY = 2.0**-25  # half of the smallest positive float16: below it every stored scale rounds to zero
LARGEST = 65504.0
DOUBT = 1 + 1e-6  # what cancels in the sums may be rounding; a candidate that fits without it goes first
NOISE = 1e-12  # exact fits differ by this much; the candidate named first wins among them

Snap = Callable[["Tensor"], "Tensor"]


def integers(low: int, high: int) -> Snap:
    """Return the function that rounds in place to the integers from low to high."""
    return lambda scaled: scaled.round_().clamp_(low, high)


def half(values: Tensor) -> Tensor:
    """Round to float16 and stay in its finite range."""
    return values.clamp(-LARGEST, LARGEST).half()


def inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, and 0 where the scale is 0."""
    import torch

    return torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)


def error(weights: Tensor, importance: Tensor, scale: Tensor, offset: Tensor | float, snap: Snap) -> Tensor:
    """Sum importance * (weight - decoded)² per column, decoding ``scale * level + offset``."""
    levels = snap(weights.sub(offset).mul_(inverse(scale)))
    rest = levels.mul_(scale).add_(offset).sub_(weights)
    return rest.square_().mul_(importance).sum(0)


def symmetric(weights: Tensor, importance: Tensor, snap: Snap, multipliers: Sequence[float], refits: int = 2) -> Tensor:
    """Find the scale per column that makes sum h (w - s * level)² least.

    Args:
        weights: [group_size, groups].
        importance: Same shape.
        snap: Rounds scaled weights to the nearest level, in place if it likes.
        multipliers: The levels (fractions allowed) at which the weight of greatest magnitude is tried.
        refits: How often the best scale rounds the weights afresh and is fitted again.
    """
    import torch

    high, low = weights.amax(0), weights.amin(0)
    extreme = torch.where(high >= -low, high, low)
    void = extreme.abs() < TINY
    unit = weights / extreme.masked_fill(void, 1.0)
    best = torch.full_like(extreme, torch.inf)
    found = torch.zeros_like(extreme)
    buffer = torch.empty_like(unit)

    def attempt(multiplier: Tensor | float) -> None:
        scaled = unit * multiplier
        levels = snap(torch.mul(unit, multiplier, out=buffer))
        rest = scaled.sub_(levels)
        counted = rest * importance
        square = rest.mul_(counted).sum(0)
        slope = counted.mul_(levels).sum(0)
        norm = levels.square().mul_(importance).sum(0).clamp_(min=1e-30)
        gain = slope / norm
        value = (square * DOUBT - slope * gain) / multiplier**2
        better = value < best - NOISE
        torch.where(better, value, best, out=best)
        torch.where(better, (1 + gain) / multiplier, found, out=found)

    for multiplier in multipliers:
        attempt(multiplier)
    for _ in range(refits):
        attempt(inverse(found))
    return (found * extreme).masked_fill_(void, 0.0)


def clipped(top: int, spans: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return candidates of `affine` that spread the weights over more levels than there are, mostly at one end.

    Example:
        >>> clipped(15, (20,))
        ((20, -1.0), (20, -4.0))
    """
    return tuple((span, -share * (span - top)) for span in spans for share in (0.2, 0.8))


def affine(
    weights: Tensor,
    importance: Tensor,
    top: int,
    candidates: Sequence[tuple[float, float]],
    refits: int = 2,
    nonpositive: bool = False,
) -> tuple[Tensor, Tensor]:
    """Find scale and offset per column that make sum h (w - s * level - o)² least, levels 0 … top.

    Args:
        weights: [group_size, groups].
        importance: Same shape.
        top: The highest level.
        candidates: Pairs (multiplier, shift): the least weight is tried at level ``shift``, the greatest at
            ``multiplier + shift``.
        refits: How often the best pair rounds the weights afresh and is fitted again.
        nonpositive: Whether the offset must not be above zero.
    """
    import torch

    low, high = weights.amin(0), weights.amax(0)
    if nonpositive:
        low = low.clamp(max=0.0)
    span = high - low
    void = span < TINY
    unit = (weights - low) / span.masked_fill(void, 1.0)
    ceiling = (-low / span.masked_fill(void, 1.0)) if nonpositive else None
    total = importance.sum(0)
    best = torch.full_like(span, torch.inf)
    scale, offset = torch.zeros_like(span), torch.zeros_like(span)

    def attempt(multiplier: Tensor | float, shift: Tensor | float) -> None:
        scaled = (unit * multiplier).add_(shift)
        levels = scaled.round().clamp_(0, top)
        rest = scaled.sub_(levels)
        counted = rest * importance
        rest_sum = counted.sum(0)
        rest_square = rest.mul_(counted).sum(0)
        rest_level = counted.mul_(levels).sum(0)
        weighted = levels * importance
        level_sum = weighted.sum(0)
        level_square = weighted.mul_(levels).sum(0)
        free = total * level_square - level_sum.square()
        steep = torch.where(free > 1e-6 * total * level_square, (total * rest_level - level_sum * rest_sum) / free, 0.0)
        lift = (rest_sum - steep * level_sum) / total
        if ceiling is not None:
            limit = ceiling * multiplier + shift
            over = lift > limit
            lift = torch.where(over, limit, lift)
            bound = (rest_level - lift * level_sum) / level_square.clamp(min=1e-30)
            steep = torch.where(over, bound, steep)
        value = rest_square * DOUBT - 2 * (steep * rest_level + lift * rest_sum)
        value += steep.square() * level_square + 2 * steep * lift * level_sum + lift.square() * total
        value = value / multiplier**2
        better = value < best - NOISE
        torch.where(better, value, best, out=best)
        torch.where(better, (1 + steep) / multiplier, scale, out=scale)
        torch.where(better, (lift - shift) / multiplier, offset, out=offset)

    for multiplier, shift in candidates:
        attempt(multiplier, shift)
    for _ in range(refits):
        attempt(inverse(scale), -offset * inverse(scale))
    span = span.masked_fill(void, 0.0)
    return scale * span, low + offset * span


def common_unit(values: Tensor, importance: Tensor, lowest: int, highest: int, multipliers: Sequence[float]) -> Tensor:
    """Find the unit per column whose integer multiples lie nearest to a few values, all candidates at once.

    Args:
        values: [n, columns], n small.
        importance: Same shape.
        lowest: The least multiple.
        highest: The greatest multiple.
        multipliers: The multiples at which the value of greatest magnitude is tried.
    """
    import torch

    high, low = values.amax(0), values.amin(0)
    extreme = torch.where(high >= -low, high, low)
    void = extreme.abs() < TINY
    tried = torch.tensor(multipliers, dtype=values.dtype, device=values.device)[:, None, None]
    scaled = (values / extreme.masked_fill(void, 1.0)) * tried
    multiples = scaled.round().clamp_(lowest, highest)
    rest = scaled.sub_(multiples)
    counted = rest * importance
    square = rest.mul_(counted).sum(1)
    slope = counted.mul_(multiples).sum(1)
    norm = multiples.square_().mul_(importance).sum(1).clamp_(min=1e-30)
    tried = tried[..., 0]
    best = ((square * DOUBT - slope.square() / norm) / tried.square()).argmin(0, keepdim=True)
    return (((1 + slope / norm) / tried).gather(0, best)[0] * extreme).masked_fill_(void, 0.0)
