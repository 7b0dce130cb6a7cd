"""The format Q4_1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits, _search
from smidgen.formats._plain import AffineBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q4_1(AffineBlock):
    """32 weights: float16 scale d and offset m, then 32 codes of 4 bits; 5 bits per weight.

    weight = d * code + m, code 0 … 15, laid out as in Q4_0. For weights that do not centre on zero, and for
    models that were published in this format: their grid is found again and kept without any loss.

    Example:
        >>> import torch
        >>> weights = torch.arange(32.0).remainder(16).reshape(1, 32) / 4 + 1
        >>> torch.equal(Q4_1().unpack(Q4_1().quantize(weights)), weights)
        True
    """

    name: ClassVar[str] = "Q4_1"
    ggml_type: ClassVar[int] = 3
    type_size: ClassVar[int] = 20
    levels: ClassVar[tuple[float, ...]] = tuple(range(16))
    candidates: ClassVar[tuple[tuple[float, float], ...]] = (
        *((15, 0), (14, 0), (13, 0), (12, 0), (14.5, 0), (15.5, -0.25), (16, -0.5)),
        *_search.clipped(15, (14.3, 15.5, 16, 16.7, 17.5, 18.5, 19.5)),
    )

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [_bits.join(codes, bits=4, run=16)]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _bits.split(packed, bits=4, run=16)
