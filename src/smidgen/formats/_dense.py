"""Codes of 1 to 8 bits laid into bytes without gaps: eight codes of b bits take b bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def join(codes: Tensor, bits: int) -> Tensor:
    """Lay codes [..., n] into bytes [..., n * bits / 8], the first code lowest; n is a multiple of 8.

    Example:
        >>> import torch
        >>> join(torch.tensor([1, 2, 3, 4, 5, 6, 7, 0], dtype=torch.uint8), bits=3).tolist()
        [209, 88, 31]
    """
    import torch

    eights = codes.reshape(*codes.shape[:-1], -1, 8).long()
    shifts = torch.arange(0, 8 * bits, bits, device=codes.device)
    whole = (eights << shifts).sum(-1, keepdim=True)
    return whole.view(torch.uint8)[..., :bits].flatten(-2)


def split(packed: Tensor, bits: int) -> Tensor:
    """Take codes out of bytes; the inverse of `join`.

    Example:
        >>> import torch
        >>> split(torch.tensor([209, 88, 31], dtype=torch.uint8), bits=3).tolist()
        [1, 2, 3, 4, 5, 6, 7, 0]
    """
    import torch

    runs = packed.reshape(*packed.shape[:-1], -1, bits)
    padded = torch.nn.functional.pad(runs, (0, 8 - bits)).contiguous().view(torch.int64)
    shifts = torch.arange(0, 8 * bits, bits, device=packed.device)
    return ((padded >> shifts) & ((1 << bits) - 1)).to(torch.uint8).flatten(-2)
