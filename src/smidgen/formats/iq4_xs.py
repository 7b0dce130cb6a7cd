"""The format IQ4_XS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits
from smidgen.formats._plain import as_bytes, as_halves
from smidgen.formats._super import SymmetricSuperBlock
from smidgen.formats.iq4_nl import IQ4_NL

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class IQ4_XS(SymmetricSuperBlock):
    """256 weights in 8 groups of 32, with 4-bit codes; 4.25 bits per weight.

    weight = d * scale * level of the code, d float16 per block, scale a signed 6-bit integer per group, the levels
    those of IQ4_NL. In the file: d, 2 bytes of the scales' upper bits, 4 bytes of their lower ones, 128 bytes of
    codes. Hardly worse than IQ4_NL and a seventeenth smaller, for rows that are multiples of 256.

    Example:
        >>> import torch
        >>> weights = torch.tensor(IQ4_NL.levels).repeat(16).reshape(1, 256)
        >>> torch.equal(IQ4_XS().unpack(IQ4_XS().quantize(weights)), weights)
        True
    """

    name: ClassVar[str] = "IQ4_XS"
    ggml_type: ClassVar[int] = 23
    type_size: ClassVar[int] = 136
    group_size: ClassVar[int] = 32
    levels: ClassVar[tuple[float, ...]] = IQ4_NL.levels
    lowest: ClassVar[int] = -32
    highest: ClassVar[int] = 31
    multipliers: ClassVar[tuple[float, ...]] = IQ4_NL.multipliers

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        import torch

        whole = stored["scales"].to(torch.int16).add(32).to(torch.uint8)
        scales = [_bits.join(whole >> 4, bits=2, run=1), _bits.join(whole, bits=4, run=1)]
        return [as_bytes(stored["d"]), *scales, _bits.join(codes, bits=4, run=16)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        upper = _bits.split(packed[..., 2:4], bits=2, run=1) << 4
        whole = _bits.split(packed[..., 4:8], bits=4, run=1) | upper
        stored = {"d": as_halves(packed[..., :2]), "scales": whole.to(torch.int8).sub(32)}
        return _bits.split(packed[..., 8:], bits=4, run=16), stored
