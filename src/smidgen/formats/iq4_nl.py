"""The format IQ4_NL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits
from smidgen.formats._plain import SymmetricBlock

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@dataclass(frozen=True)
class IQ4_NL(SymmetricBlock):
    """32 weights: float16 scale d, then 32 codes of 4 bits; 4.5 bits per weight.

    weight = d * level of the code; the 16 levels -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89,
    113 lie denser around zero, where weights do. The bytes are laid out as in Q4_0. Better than Q4_0 at the same size.

    Example:
        >>> import torch
        >>> weights = torch.tensor(LEVELS).repeat(2).reshape(1, 32) / 64
        >>> IQ4_NL().fit(weights).scale.item()
        0.015625
    """

    name: ClassVar[str] = "IQ4_NL"
    ggml_type: ClassVar[int] = 20
    type_size: ClassVar[int] = 18
    levels: ClassVar[tuple[float, ...]] = LEVELS
    multipliers: ClassVar[tuple[float, ...]] = (
        *(-127, -104, -83, -65, -49, 113, 89, 69, 53, 38),  # levels themselves: exact for weights from this format
        *(-122, -116, -110, -132, -138, -146, -154, -163, -173, -184),
        *(108, 103, 98, 118, 124, 132, 140, 148, 157, 167),
    )

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [_bits.join(codes, bits=4, run=16)]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _bits.split(packed, bits=4, run=16)
