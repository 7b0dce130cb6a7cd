"""Divides what stays among the blocks of an uneven cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smidgen.shrink.prune.criteria import NO_PART

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.prune.structures import BlockStructure

OUTLIER, SPREAD = 5.0, 0.08


def standardised(scores: torch.Tensor) -> torch.Tensor:
    """Centre and scale every block's scores, so that blocks can be compared (FLAP, arXiv 2312.11983).

    Args:
        scores: ``[blocks, parts]``; places without a part stay as they are.

    Example:
        >>> import torch
        >>> standardised(torch.tensor([[1.0, 3.0], [10.0, 30.0]])).tolist()
        [[-1.0, 1.0], [-1.0, 1.0]]
    """
    result = scores.clone()
    for row in result:
        there = row != NO_PART
        own = row[there]
        if len(own):
            row[there] = (own - own.mean()) / own.std(correction=0).clamp_min(1e-12)
    return result


def allocate(
    model: Model, structure: BlockStructure, scores: torch.Tensor, keep: int, *, comparable: bool
) -> list[int]:
    """Say how many parts each block keeps so that over all blocks the highest scores stay.

    Sets of parts that go together (`BlockStructure.units`) are taken in the order of their mean score, first what
    every block must keep, until as many parts stay as an even cut would keep.

    Args:
        model: The model.
        structure: The kind of part.
        scores: ``[blocks, parts]``.
        keep: Mean count that stays.
        comparable: Whether scores of different blocks are on one scale; otherwise they are standardised.
    """
    anatomy, step = model.anatomy, structure.step(model.anatomy)
    compared = scores if comparable else standardised(scores)
    counts, open_sets, left = [], [], keep * len(anatomy.blocks)
    for block, row, values in zip(anatomy.blocks, scores, compared, strict=True):
        count = 0
        for unit in structure.units(row[: structure.present(block)], block, step):
            if count < structure.fewest(block):
                count += len(unit)
            else:
                open_sets.append((-float(values[unit].mean()), block.index, len(unit)))
        counts.append(count)
        left -= count
    for _, index, size in sorted(open_sets):
        if size > left:
            break
        counts[index] += size
        left -= size
    return counts


def outlier_sparsities(shares: Sequence[float], sparsity: float, spread: float = SPREAD) -> list[float]:
    """Give blocks with many outliers a lower sparsity, the mean staying as asked (OWL, arXiv 2310.05175).

    Args:
        shares: Share of outliers in each block.
        sparsity: Mean share of weights that goes.
        spread: How far a block's sparsity lies from the mean at most.

    Example:
        >>> [round(value, 2) for value in outlier_sparsities([0.01, 0.03], 0.5)]
        [0.58, 0.42]
    """
    low, high = min(shares), max(shares)
    if high == low:
        return [sparsity] * len(shares)
    spread = min(spread, sparsity, 1 - sparsity)
    raised = [(share - low) / (high - low) * 2 * spread for share in shares]
    mean = sum(raised) / len(raised)
    wanted = [sparsity - (value - mean) for value in raised]
    return [min(max(value, 0.0), 1.0) for value in wanted]


def outlier_share(scores: Sequence[torch.Tensor], times: float = OUTLIER) -> float:
    """Return the share of scores of a block's matrices that exceed ``times`` the mean of all.

    Example:
        >>> import torch
        >>> outlier_share([torch.tensor([1.0, 1.0, 1.0, 17.0])], times=3)
        0.25
    """
    count = sum(each.numel() for each in scores)
    mean = sum(float(each.sum()) for each in scores) / count
    return sum(int((each > times * mean).sum()) for each in scores) / count
