"""Codes of 1, 2 or 4 bits laid into bytes in the runs that llama.cpp's kernels read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def join(codes: Tensor, bits: int, run: int) -> Tensor:
    """Lay the low bits of codes [..., n] into bytes [..., n * bits / 8].

    The codes come in runs: with 4 bits and runs of 16, byte i of a block holds code i in its low half and code
    16 + i in its high half.

    Args:
        codes: uint8 [..., n].
        bits: 1, 2 or 4.
        run: Codes that stand side by side before the next shift begins.

    Example:
        >>> import torch
        >>> join(torch.tensor([1, 2, 3, 4], dtype=torch.uint8), bits=4, run=2).tolist()
        [49, 66]
    """
    per_byte = 8 // bits
    parts = codes.reshape(*codes.shape[:-1], -1, per_byte, run) & ((1 << bits) - 1)
    joined = parts[..., 0, :].clone()
    for place in range(1, per_byte):
        joined |= parts[..., place, :] << (bits * place)
    return joined.flatten(-2)


def split(packed: Tensor, bits: int, run: int) -> Tensor:
    """Take codes [..., n] out of bytes; the inverse of `join`.

    Example:
        >>> import torch
        >>> split(torch.tensor([49, 66], dtype=torch.uint8), bits=4, run=2).tolist()
        [1, 2, 3, 4]
    """
    import torch

    runs = packed.reshape(*packed.shape[:-1], -1, 1, run)
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)[:, None]
    return ((runs >> shifts) & ((1 << bits) - 1)).flatten(-3)
