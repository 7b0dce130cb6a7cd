"""The 12 bytes in which Q4_K and Q5_K keep 8 scales and 8 minimums of 6 bits each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def sixes(scales: Tensor, minimums: Tensor) -> Tensor:
    """Join scales and minimums [..., 8] to bytes [..., 12].

    Bytes 0-3 hold scales 0-3, bytes 4-7 minimums 0-3, bytes 8-11 the lower four bits of scales and minimums 4-7,
    whose upper two bits stand on top of bytes 0-7.

    Example:
        >>> import torch
        >>> whole = torch.full((8,), 33, dtype=torch.uint8)
        >>> sixes(whole, whole).tolist()[::4]
        [161, 161, 17]
    """
    import torch

    first = scales[..., :4] | ((scales[..., 4:] >> 4) << 6)
    second = minimums[..., :4] | ((minimums[..., 4:] >> 4) << 6)
    third = (scales[..., 4:] & 15) | ((minimums[..., 4:] & 15) << 4)
    return torch.cat([first, second, third], -1)


def from_sixes(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Take scales and minimums [..., 8] out of bytes [..., 12]; the inverse of `sixes`."""
    import torch

    first, second, third = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = torch.cat([first & 63, (third & 15) | ((first >> 6) << 4)], -1)
    return scales, torch.cat([second & 63, (third >> 4) | ((second >> 6) << 4)], -1)
