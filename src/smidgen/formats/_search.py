"""Searches for the scale (and offset) of many groups of weights at once.

Every candidate rounds the weights to levels, then takes the scale that fits those levels best in closed form. All
tensors are float32 on the processor: weights ``[groups, size]``, importance ``[rows, parts, size]``, where ``parts``
groups make up a row of weights and ``rows`` is 1 where all rows share one importance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smidgen.formats._grid import Grid

if TYPE_CHECKING:
    from torch import Tensor

REFITS = 2
"""How often the best found scale rounds the weights afresh and is fitted again."""
LARGEST = 65504.0
EXPONENTS = (-120, 124)
"""Powers of two whose inverse, and whose product with a level, are floats as well."""
STEPS = (0, -1, 1)
"""Integer scales tried around the present one."""
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""The same with the minimum moved by some whole levels."""


def half(values: Tensor) -> Tensor:
    """Round to float16 and stay in its finite range."""
    return values.clamp(-LARGEST, LARGEST).half()


def inverse(scale: Tensor) -> Tensor:
    """Return 1 / scale, and 0 where the scale is 0."""
    import torch

    return torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)


def spread(importance: Tensor, groups: int) -> Tensor:
    """Give every group its own importance, ``[groups, size]``, a view where the rows have their own already."""
    rows, parts, size = importance.shape
    return importance.expand(groups // parts if rows == 1 else rows, parts, size).reshape(groups, size)


def symmetric(weights: Tensor, importance: Tensor, grid: Grid, multipliers: Sequence[float]) -> Tensor:
    """Find the scale per group that makes sum h (w - s * level)² least, ``[groups]``.

    Args:
        weights: See above.
        importance: See above.
        grid: The levels.
        multipliers: The levels (fractions allowed) at which the weight of greatest magnitude is tried.
    """
    import numpy as np
    import torch

    from smidgen.formats import _compiled

    found, tried = torch.empty(len(weights)), np.array(multipliers, np.float32)
    arrays = weights.numpy(), importance.numpy(), grid.values, grid.snapped, tried
    _compiled.symmetric(*arrays, REFITS, found.numpy())
    return found


def power(weights: Tensor, importance: Tensor, grid: Grid, steps: Sequence[int]) -> Tensor:
    """Find the power of two per group that makes sum h (w - 2**p * level)² least: its exponent p, int32 ``[groups]``.

    Args:
        weights: See above.
        importance: See above.
        grid: The levels.
        steps: Exponents tried, counted down from the one that puts the weight of greatest magnitude among the upper
            half of the levels; the first of them wins where nothing is to choose.
    """
    import numpy as np
    import torch

    from smidgen.formats import _compiled

    top = float(np.abs(grid.values).max())
    start = torch.frexp(weights.abs().amax(1) / top).exponent.clamp(*EXPONENTS)
    found, tried = torch.empty_like(start), np.array(steps, np.int32)
    arrays = weights.numpy(), importance.numpy(), grid.values, grid.snapped, tried, start.numpy()
    _compiled.power(*arrays, found.numpy())
    return found.clamp_(*EXPONENTS)


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
    nonpositive: bool = False,
) -> tuple[Tensor, Tensor]:
    """Find scale and offset per group that make sum h (w - s * level - o)² least, levels 0 … top, ``[groups]`` each.

    Args:
        weights: See above.
        importance: See above.
        top: The highest level.
        candidates: Pairs (multiplier, shift): the least weight is tried at level ``shift``, the greatest at
            ``multiplier + shift``.
        nonpositive: Whether the offset must not be above zero.
    """
    import numpy as np
    import torch

    from smidgen.formats import _compiled

    found, tried = torch.empty(2, len(weights)), np.array(candidates, np.float32)
    arrays = weights.numpy(), importance.numpy()
    _compiled.affine(*arrays, np.float32(top), tried, REFITS, nonpositive, found.numpy())
    return found[0], found[1]


def error(weights: Tensor, importance: Tensor, scale: Tensor, offset: Tensor, top: int) -> Tensor:
    """Sum importance * (weight - decoded)² per group, decoding ``scale * level + offset``, levels 0 … top."""
    import numpy as np
    import torch

    from smidgen.formats import _compiled

    found = torch.empty(len(weights))
    arrays = weights.numpy(), importance.numpy(), scale.float().numpy(), offset.float().numpy()
    _compiled.error(*arrays, np.float32(top), found.numpy())
    return found


def neighbours(
    weights: Tensor, importance: Tensor, grid: Grid, unit: Tensor, bounds: tuple[int, int], integers: Tensor
) -> tuple[Tensor, Tensor]:
    """Try the neighbours of every group's integer scale and keep the best.

    Args:
        weights: See above.
        importance: See above.
        grid: The levels.
        unit: The super-scale of the group's block, ``[groups]``.
        bounds: Least and greatest integer.
        integers: ``[groups]``, float32.

    Returns:
        The integers ``[groups]``; error, Σ h·level² and Σ h·level·weight of every group, ``[3, groups]``.
    """
    import numpy as np
    import torch

    from smidgen.formats import _compiled

    found, sums = integers.flatten().clone(), torch.empty(3, len(weights))
    limits, steps = np.array(bounds, np.float32), np.array(STEPS, np.float32)
    arrays = weights.numpy(), importance.numpy(), grid.values, grid.snapped, unit.contiguous().numpy()
    _compiled.neighbours(*arrays, limits, steps, found.numpy(), sums.numpy())
    return found, sums


def neighbours_with_minimum(
    weights: Tensor, importance: Tensor, top: int, units: Tensor, highest: int, integers: Tensor
) -> tuple[Tensor, Tensor]:
    """Try the neighbours of every group's integer scale, each with the minimum that suits it best; keep the best.

    Args:
        weights: See above.
        importance: See above.
        top: The highest level.
        units: d and dmin of the group's block, ``[2, groups]``.
        highest: Greatest integer.
        integers: Scales and minimums, ``[2, groups]``, float32.

    Returns:
        The integers ``[2, groups]``; error, Σ h·level², Σ h·level, Σ h·level·weight, Σ h and Σ h·weight of every
        group, ``[6, groups]``.
    """
    import numpy as np
    import torch

    from smidgen.formats import _compiled

    found, sums = integers.clone(), torch.empty(6, len(weights))
    moves = np.array(MOVES, np.float32)
    arrays = weights.numpy(), importance.numpy(), np.float32(top), units.contiguous().numpy(), np.float32(highest)
    _compiled.neighbours_with_minimum(*arrays, moves, found.numpy(), sums.numpy())
    return found, sums


def common_unit(values: Tensor, importance: Tensor, lowest: int, highest: int, multipliers: Sequence[float]) -> Tensor:
    """Find the unit per row whose integer multiples lie nearest to a few values, ``[rows]``.

    Args:
        values: ``[rows, n]``, n small.
        importance: Same shape.
        lowest: The least multiple.
        highest: The greatest multiple.
        multipliers: The multiples at which the value of greatest magnitude is tried.
    """
    import numpy as np
    import torch

    from smidgen.formats import _compiled

    found, tried = torch.empty(len(values)), np.array(multipliers, np.float32)
    arrays = values.contiguous().numpy(), importance.contiguous().numpy()
    _compiled.common_unit(*arrays, np.float32(lowest), np.float32(highest), tried, found.numpy())
    return found
