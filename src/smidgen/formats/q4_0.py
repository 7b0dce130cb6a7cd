"""The format Q4_0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits
from smidgen.formats._plain import SymmetricBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q4_0(SymmetricBlock):
    """32 weights: float16 scale d, then 32 codes of 4 bits; 4.5 bits per weight.

    weight = d * (code - 8). Byte i of the codes holds weight i in its low half and weight 16 + i in its high half.
    The grid is lopsided (-8 … 7), so d takes the sign that puts the greatest weight on -8 where that is better.
    For engines and chips that have their fastest path here; IQ4_NL and Q4_K are better at the same size.

    Example:
        >>> import torch
        >>> weights = torch.arange(32.0).remainder(16).sub(7).reshape(1, 32) / 4  # -7/4 … 8/4
        >>> Q4_0().fit(weights).scale.item()
        -0.25
    """

    name: ClassVar[str] = "Q4_0"
    ggml_type: ClassVar[int] = 2
    type_size: ClassVar[int] = 18
    levels: ClassVar[tuple[float, ...]] = tuple(range(-8, 8))
    multipliers: ClassVar[tuple[float, ...]] = (
        *(1, 2, 3, 4, 5, 6, 7, 7.5, 8, 8.5, 9, 9.5, 10, 11, 12),
        *(-6.5, -7, -7.3, -7.6, -8, -8.3, -8.6, -9, -9.5, -10, -10.5, -11, -11.5, -12.5),
    )

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [_bits.join(codes, bits=4, run=16)]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _bits.split(packed, bits=4, run=16)
