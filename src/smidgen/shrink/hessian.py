"""The factor of a Hessian's inverse, by which later columns of a matrix make up for earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    import torch

DAMPING, MOST_DAMPING = 0.01, 1.0


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

    exact = hessian.detach().cpu().double()
    diagonal = exact.diagonal()
    mean = diagonal.mean()
    mean = torch.where(mean == 0, 1.0, mean)
    exact = exact + torch.diag(torch.where(diagonal > 0, 0.0, mean))
    identity = torch.eye(len(exact), dtype=exact.dtype)
    while damping <= MOST_DAMPING:
        # With rows and columns in reverse, H = R·Rᵀ for an upper R, and then U = R⁻¹: H is never inverted.
        damped = exact + identity * (mean * damping)
        lower, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
        if not failed:
            upper = torch.linalg.solve_triangular(lower.flip(0, 1), identity, upper=True)
            if bool(upper.isfinite().all()):
                found: torch.Tensor = upper.float()
                return found
        damping = max(10 * damping, DAMPING)
    raise InvalidInput(
        "The calibration statistics of a matrix cannot be inverted.", remedy="Use more calibration text."
    )
