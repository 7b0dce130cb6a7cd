"""The format TQ2_0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits
from smidgen.formats._ternary import REACHES, TernaryBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TQ2_0(TernaryBlock):
    """256 weights: codes of 2 bits, then float16 scale d; 2.0625 bits per weight.

    weight = d * (code - 1). Made for ternary weights, which it keeps exactly and which run faster than in TQ1_0; other
    weights use the fourth code as well, d taking the sign that puts 2 d where it serves best. In the file: 64 bytes
    of codes in runs of 32, d. For models trained to ternary weights (BitNet b1.58, arXiv 2402.17764), or with
    healing afterwards.

    Example:
        >>> import torch
        >>> weights = torch.arange(256.0).remainder(4).sub(2).reshape(1, 256)  # -2 … 1
        >>> TQ2_0().fit(weights).scale.item(), torch.equal(TQ2_0().unpack(TQ2_0().quantize(weights)), weights)
        (-1.0, True)
    """

    name: ClassVar[str] = "TQ2_0"
    ggml_type: ClassVar[int] = 35
    type_size: ClassVar[int] = 66
    levels: ClassVar[tuple[float, ...]] = (-1, 0, 1, 2)
    multipliers: ClassVar[tuple[float, ...]] = (*REACHES, 2, *(-reach for reach in REACHES))

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [_bits.join(codes, bits=2, run=32)]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _bits.split(packed, bits=2, run=32)
