"""The format Q6_K."""

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
class Q6_K(SymmetricSuperBlock):
    """256 weights in 16 groups of 16, with 6-bit codes; 6.5625 bits per weight.

    weight = d * scale * (code - 32), d float16 per block, scale a signed byte per group. In the file: 128 bytes of
    lower four bits, 64 bytes of upper two bits, 16 scales, d. Close to lossless; for heads, embeddings and the
    tensors that errors hurt most.

    Example:
        >>> import torch
        >>> weights = torch.arange(256.0).remainder(64).sub(32).reshape(1, 256)
        >>> torch.equal(Q6_K().unpack(Q6_K().quantize(weights)), weights)
        True
    """

    name: ClassVar[str] = "Q6_K"
    ggml_type: ClassVar[int] = 14
    type_size: ClassVar[int] = 210
    group_size: ClassVar[int] = 16
    levels: ClassVar[tuple[float, ...]] = tuple(range(-32, 32))
    lowest: ClassVar[int] = -128
    highest: ClassVar[int] = 127
    multipliers: ClassVar[tuple[float, ...]] = (31, 30, 29, 28, 31.5, -30, -31, -31.5, -32, -32.5, -33)

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        halves = [_bits.join(codes, bits=4, run=64), _bits.join(codes >> 4, bits=2, run=32)]
        return [*halves, stored["scales"].contiguous().view(codes.dtype), as_bytes(stored["d"])]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        codes = _bits.split(packed[..., :128], bits=4, run=64) | (
            _bits.split(packed[..., 128:192], bits=2, run=32) << 4
        )
        scales = packed[..., 192:208].contiguous().view(torch.int8)
        return codes, {"d": as_halves(packed[..., 208:]), "scales": scales}
