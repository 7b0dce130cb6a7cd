"""What a matrix's inputs look like, as solvers go by it: XᵀX/n, or its diagonal alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smidgen.shrink.precision import exact

if TYPE_CHECKING:
    import torch


def second_moments(inputs: torch.Tensor, *, rows: int = 4096) -> torch.Tensor:
    """XᵀX/n of inputs ``[…, width]`` as float32 ``[width, width]``, accumulated ``rows`` tokens at a time."""
    import torch

    flat = inputs.reshape(-1, inputs.shape[-1])
    total = torch.zeros(flat.shape[-1], flat.shape[-1])
    with exact():
        for part in torch.split(flat, rows):
            values = part.float()
            total.addmm_(values.T, values)
    return total.div_(len(flat))


def mean_squares(inputs: torch.Tensor, *, rows: int = 4096) -> torch.Tensor:
    """Return the diagonal of `second_moments` alone, ``[width]``."""
    import torch

    flat = inputs.reshape(-1, inputs.shape[-1])
    total = torch.zeros(flat.shape[-1])
    for part in torch.split(flat, rows):
        total += part.float().square().sum(0)
    return total / len(flat)


def regularised(moments: torch.Tensor, share: float, others: torch.Tensor | None = None) -> torch.Tensor:
    """Lean figures of too few tokens on what is known without them.

    Args:
        moments: XᵀX/n of the tokens seen, ``[width, width]``, or its diagonal, ``[width]``.
        share: How much they count, from 0 to 1; where n tokens are fewer than the width, n / width.
        others: The same of tokens that are like them. Where None each input's own square stays as it was and nothing
            is taken for known of pairs; of a diagonal, its mean stands for every input.

    Example:
        >>> import torch
        >>> regularised(torch.tensor([[2.0, 1.0], [1.0, 4.0]]), 0.5).tolist()
        [[2.0, 0.5], [0.5, 4.0]]
        >>> regularised(torch.tensor([2.0, 4.0]), 0.5, torch.tensor([4.0, 4.0])).tolist()
        [3.0, 4.0]
    """
    if others is None:
        others = moments.diagonal().diag() if moments.dim() == 2 else moments.mean().expand_as(moments)
    return moments * share + others * (1 - share)
