"""The format Q3_K."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits
from smidgen.formats._plain import as_bytes, as_halves
from smidgen.formats._super import SymmetricSuperBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q3_K(SymmetricSuperBlock):
    """256 weights in 16 groups of 16, with 3-bit codes; 3.4375 bits per weight.

    weight = d * scale * (code - 4), d float16 per block, scale a signed 6-bit integer per group. In the file: 32
    bytes of third bits, 64 bytes of lower bits, 12 bytes of scales, d. For large tensors of low sensitivity.

    Example:
        >>> import torch
        >>> weights = torch.arange(256.0).remainder(8).sub(4).reshape(1, 256)
        >>> torch.equal(Q3_K().unpack(Q3_K().quantize(weights)), weights)
        True
    """

    name: ClassVar[str] = "Q3_K"
    ggml_type: ClassVar[int] = 11
    type_size: ClassVar[int] = 110
    group_size: ClassVar[int] = 16
    levels: ClassVar[tuple[float, ...]] = tuple(range(-4, 4))
    lowest: ClassVar[int] = -32
    highest: ClassVar[int] = 31
    multipliers: ClassVar[tuple[float, ...]] = (
        *(1, 4 / 3, 5 / 3, 2, 7 / 3, 8 / 3, 3, 10 / 3, 11 / 3, 4, 13 / 3, 14 / 3),
        *(-7 / 3, -8 / 3, -3, -10 / 3, -11 / 3, -4, -13 / 3, -14 / 3, -5, -16 / 3, -17 / 3, -6, -19 / 3),
    )

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        import torch

        whole = stored["scales"].to(torch.int16).add(32).to(torch.uint8)
        scales = [_bits.join(whole, bits=4, run=8), _bits.join(whole >> 4, bits=2, run=4)]
        third = _bits.join(codes >> 2, bits=1, run=32)
        return [third, _bits.join(codes, bits=2, run=32), *scales, as_bytes(stored["d"])]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        codes = _bits.split(packed[..., 32:96], bits=2, run=32) | (_bits.split(packed[..., :32], bits=1, run=32) << 2)
        upper = _bits.split(packed[..., 104:108], bits=2, run=4) << 4
        whole = _bits.split(packed[..., 96:104], bits=4, run=8) | upper
        return codes, {"d": as_halves(packed[..., 108:]), "scales": whole.to(torch.int8).sub(32)}
