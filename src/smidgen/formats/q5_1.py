"""The format Q5_1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits, _search
from smidgen.formats._plain import AffineBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q5_1(AffineBlock):
    """32 weights: float16 scale d and offset m, then 32 codes of 5 bits; 6 bits per weight.

    weight = d * code + m, code 0 … 31, laid out as in Q5_0. For weights that do not centre on zero in rows that
    no multiple of 256 fits.

    Example:
        >>> import torch
        >>> weights = torch.arange(32.0).reshape(1, 32) / 8 - 1
        >>> Q5_1().fit(weights).scale.item(), Q5_1().fit(weights).minimum.item()
        (0.125, 1.0)
    """

    name: ClassVar[str] = "Q5_1"
    ggml_type: ClassVar[int] = 7
    type_size: ClassVar[int] = 24
    levels: ClassVar[tuple[float, ...]] = tuple(range(32))
    candidates: ClassVar[tuple[tuple[float, float], ...]] = (
        *((31, 0), (30, 0), (29, 0), (28, 0), (30.5, 0), (31.5, -0.25), (32, -0.5)),
        *_search.clipped(31, (32.2, 33.3, 34.5, 36, 38)),
    )

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [_bits.join(codes >> 4, bits=1, run=1), _bits.join(codes, bits=4, run=16)]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _bits.split(packed[..., 4:], bits=4, run=16) | (_bits.split(packed[..., :4], bits=1, run=1) << 4)
