"""Removes single weights while the weights of later columns take over what they can."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STRIDE = 128

Stays = Callable[["torch.Tensor", "torch.Tensor", int], "torch.Tensor"]
"""Says which weights of some columns stay: of their values ``[out, width]``, U's diagonal there, the first column."""


def compensate(weight: torch.Tensor, factor: torch.Tensor, stays: Stays, *, group: int = STRIDE) -> torch.Tensor:
    """Set weights to zero column by column, each time changing the columns after so that the output changes least.

    For column i, e = (w_i − ŵ_i)/U_ii with ŵ_i the column without the weights that go, then w_{>i} −= e·U_{i,>i}.
    Source: Frantar 2023, arXiv 2301.00774, algorithm 1.

    Args:
        weight: ``[out, in]``.
        factor: `smidgen.shrink.hessian.inverse_factor` of the inputs' Hessian.
        stays: Asked at the beginning of every ``group`` columns, for the values as they are by then.
        group: Columns that are decided together.

    Returns:
        The new weights, float32 ``[out, in]``.

    Example:
        >>> import torch
        >>> from smidgen.shrink.hessian import inverse_factor
        >>> twins = inverse_factor(torch.tensor([[1.0, 0.999], [0.999, 1.0]]), damping=1e-6)
        >>> second = torch.tensor([[False, True]])
        >>> changed = compensate(torch.tensor([[1.0, 2.0]]), twins, lambda *_: second)
        >>> [round(value, 2) for value in changed[0].tolist()]
        [0.0, 3.0]
    """
    import torch

    # One column is one contiguous row of the transposed copy.
    work = weight.detach().cpu().float().T.contiguous()
    columns, rows = work.shape
    stride = max(group, STRIDE // group * group)
    for start in range(0, columns, stride):
        end = min(start + stride, columns)
        errors = torch.zeros(end - start, rows)
        for column in range(start, end):
            if (column - start) % group == 0:
                span = slice(column, min(column + group, columns))
                kept = stays(work[span].T, factor.diagonal()[span], column).T
            keeps = kept[(column - start) % group]
            error = work[column].masked_fill(keeps, 0.0) / factor[column, column]
            work[column].masked_fill_(~keeps, 0.0)
            errors[column - start] = error
            if column + 1 < end:
                work[column + 1 : end].addr_(factor[column, column + 1 : end], error, alpha=-1)
        if end < columns:
            work[end:].addmm_(factor[start:end, end:].T, errors, alpha=-1)
    return work.T.contiguous()
