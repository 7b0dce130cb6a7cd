"""The factor of a Hessian's inverse, by which later columns of a matrix make up for earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    import torch

DAMPING, MOST_DAMPING = 0.01, 1.0
COLUMNS_AT_A_TIME = 1024
"""Columns of the factor that are worked out at once; H of 14,336 inputs takes 1.6 GB in float64."""


def inverse_factor(hessian: torch.Tensor, damping: float = DAMPING) -> torch.Tensor:
    """Return the upper Cholesky factor U of H⁻¹ (H⁻¹ = Uᵀ·U), ``[columns, columns]`` float32.

    Inputs that never occur get the mean diagonal (1 where none occurs): their weights cost nothing and repair nothing.

    Args:
        hessian: ``[columns, columns]``.
        damping: Share of the mean diagonal added to the diagonal, raised tenfold until the factor exists.

    Raises:
        InvalidInput: No damping up to 1 makes H positive definite: it holds NaN or infinity.

    Example:
        >>> import torch
        >>> inverse_factor(torch.diag(torch.tensor([4.0, 16.0])), damping=0.0).diag().tolist()
        [0.5, 0.25]
    """
    import torch

    hessian = hessian.detach().cpu()
    diagonal = hessian.diagonal().double()
    mean = diagonal.mean()
    mean = torch.where(mean == 0, 1.0, mean)
    unseen = torch.where(diagonal > 0, 0.0, mean)
    while damping <= MOST_DAMPING:
        # With rows and columns in reverse, H = R·Rᵀ for an upper R, and then U = R⁻¹: H is never inverted.
        damped = hessian.flip(0, 1).double()
        damped.diagonal().add_((unseen + mean * damping).flip(0))
        lower, failed = torch.linalg.cholesky_ex(damped)
        del damped
        if not failed:
            upper = _reversed_inverse(lower)
            if bool(upper.sum(dtype=torch.float64).isfinite()):  # of all of them, without a copy
                return upper
        damping = max(10 * damping, DAMPING)
    raise InvalidInput(
        "The calibration statistics of a matrix cannot be inverted.", remedy="Use more calibration text."
    )


def _reversed_inverse(lower: torch.Tensor) -> torch.Tensor:
    """Invert a lower triangular matrix and reverse its rows and columns, float32; few columns at a time are float64."""
    import torch

    count = len(lower)
    upper = torch.zeros(count, count)
    for first in range(0, count, COLUMNS_AT_A_TIME):
        last = min(first + COLUMNS_AT_A_TIME, count)
        unit = torch.zeros(count - first, last - first, dtype=lower.dtype)
        unit.diagonal().fill_(1.0)
        columns = torch.linalg.solve_triangular(lower[first:, first:], unit, upper=False)
        upper[: count - first, count - last : count - first] = columns.flip(0, 1).float()
    return upper
