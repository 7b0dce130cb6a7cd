"""The format TQ1_0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats._ternary import REACHES, TernaryBlock, join_digits, split_digits

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TQ1_0(TernaryBlock):
    """256 weights: codes of one digit of three values each, then float16 scale d; 1.6875 bits per weight.

    weight = d * (digit - 1). Five digits share a byte: 32 bytes hold weights 0 … 159, byte i those at i, 32 + i, …,
    16 bytes hold weights 160 … 239 likewise, and 4 bytes with four digits each the last 16. Only for models trained
    to ternary weights (BitNet b1.58, arXiv 2402.17764), for tensors that hardly matter, or with healing afterwards.

    Example:
        >>> import torch
        >>> weights = torch.arange(256.0).remainder(3).sub(1).reshape(1, 256) / 4
        >>> torch.equal(TQ1_0().unpack(TQ1_0().quantize(weights)), weights)
        True
    """

    name: ClassVar[str] = "TQ1_0"
    ggml_type: ClassVar[int] = 34
    type_size: ClassVar[int] = 54
    levels: ClassVar[tuple[float, ...]] = (-1, 0, 1)
    multipliers: ClassVar[tuple[float, ...]] = REACHES

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        runs = ((0, 160, 32), (160, 240, 16), (240, 256, 4))
        return [join_digits(codes[..., start:end], run) for start, end, run in runs]

    def _split_codes(self, packed: Tensor) -> Tensor:
        import torch

        parts = split_digits(packed[..., :32], 32), split_digits(packed[..., 32:48], 16)
        return torch.cat([*parts, split_digits(packed[..., 48:52], 4, digits=4)], -1)
