"""The format Q5_0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits
from smidgen.formats._plain import SymmetricBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q5_0(SymmetricBlock):
    """32 weights: float16 scale d, then 32 codes of 5 bits; 5.5 bits per weight.

    weight = d * (code - 16). The fifth bits of all 32 codes come first (4 bytes, weight i in bit i), then the lower
    four bits as in Q4_0. For rows that no multiple of 256 fits; else Q5_K is better at the same size.

    Example:
        >>> import torch
        >>> weights = torch.arange(-16.0, 16.0).reshape(1, 32) / 64
        >>> Q5_0().fit(weights).scale.item()
        0.015625
    """

    name: ClassVar[str] = "Q5_0"
    ggml_type: ClassVar[int] = 6
    type_size: ClassVar[int] = 22
    levels: ClassVar[tuple[float, ...]] = tuple(range(-16, 16))
    multipliers: ClassVar[tuple[float, ...]] = (
        *(9, 10, 11, 12, 13, 14, 14.5, 15, 15.5, 16.5, 17.5, 19, 21, 23),
        *(-14, -14.5, -15, -15.5, -16, -16.5, -17, -18, -19, -20, -22, -24),
    )

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [_bits.join(codes >> 4, bits=1, run=1), _bits.join(codes, bits=4, run=16)]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _bits.split(packed[..., 4:], bits=4, run=16) | (_bits.split(packed[..., :4], bits=1, run=1) << 4)
