"""The format MXFP4."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits, _search
from smidgen.formats._block import BlockFormat, Scales

if TYPE_CHECKING:
    from torch import Tensor

MAGNITUDES = (0, 1, 2, 3, 4, 6, 8, 12)


@dataclass(frozen=True)
class MXFP4(BlockFormat):
    """32 weights: one byte of exponent e, then 32 floats of 4 bits; 4.25 bits per weight.

    weight = 2**(e - 128) * level of the code; code 0 … 7 stands for 0, 1, 2, 3, 4, 6, 8, 12 (twice the E2M1 floats
    0, ½, 1, 1½, 2, 3, 4, 6), code 8 … 15 for their negatives. The bytes of codes are laid out as in Q4_0. For models
    trained in it and for chips that compute in it; where nothing asks for it, IQ4_XS and IQ4_NL are better, since a
    scale that is a power of two fits no weights well. Source: OCP Microscaling Formats specification 1.0, 2023.

    Example:
        >>> import torch
        >>> weights = torch.tensor([0, 0.5, -1, 1.5, -2, 3, -4, 6]).repeat(4).reshape(1, 32)
        >>> MXFP4().fit(weights).stored["e"].item(), torch.equal(MXFP4().unpack(MXFP4().quantize(weights)), weights)
        (127, True)
    """

    name: ClassVar[str] = "MXFP4"
    ggml_type: ClassVar[int] = 39
    block_size: ClassVar[int] = 32
    group_size: ClassVar[int] = 32
    type_size: ClassVar[int] = 17
    levels: ClassVar[tuple[float, ...]] = (*MAGNITUDES, *(-each for each in MAGNITUDES))

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        import torch

        return {"e": _search.power(weights, importance, self.grid, range(-1, 4)).add_(128).to(torch.uint8)}

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        import torch

        e = stored["e"].to(torch.int32)[..., None]
        # The bits of the float itself, since below 2**-126 it has no exponent of its own.
        scale = torch.where(e < 2, (1 << 21) << e.clamp(max=1), (e - 1).clamp(min=0) << 23).view(torch.float32)
        return Scales(scale, torch.zeros_like(scale), stored)

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        return [stored["e"][..., None], _bits.join(codes, bits=4, run=16)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return _bits.split(packed[..., 1:], bits=4, run=16), {"e": packed[..., 0].clone()}
