"""The format Q8_0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats._plain import SymmetricBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q8_0(SymmetricBlock):
    """32 weights: float16 scale d, then 32 signed bytes; 8.5 bits per weight.

    weight = d * (code - 128), the byte in the file being code - 128 as a signed integer. Practically without loss,
    and the fastest of all to read; the usual choice for embeddings that have room.

    Example:
        >>> import torch
        >>> weights = torch.arange(32.0).sub(31).reshape(1, 32) / 8
        >>> packed = Q8_0().quantize(weights)
        >>> packed.shape[1], round(Q8_0().unpack(packed)[0, 0].item(), 3)
        (34, -3.875)
    """

    name: ClassVar[str] = "Q8_0"
    ggml_type: ClassVar[int] = 8
    type_size: ClassVar[int] = 34
    levels: ClassVar[tuple[float, ...]] = tuple(range(-128, 128))
    multipliers: ClassVar[tuple[float, ...]] = (127, 126, 125, 124, 123, 122, 121, -128, 127.5, 126.5, 125.5)

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [codes ^ 128]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return packed ^ 128
