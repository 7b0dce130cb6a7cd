"""The format IQ4_NL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits, _search
from smidgen.formats._plain import SymmetricBlock

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor]:
    """Tabulate the nearest level and its code for every half from -128 to 127.5; midpoints are halves."""
    import torch

    levels = torch.tensor(LEVELS, dtype=torch.float32)
    halves = torch.arange(-128, 128, 0.5) + 0.25
    codes = (halves[:, None] - levels).abs().argmin(1)
    return levels[codes].to(device), codes.to(torch.uint8).to(device)


def _place(scaled: Tensor) -> Tensor:
    import torch

    return scaled.mul_(2).add_(256).clamp_(0, 511).to(torch.int32)


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

    def _snap(self) -> _search.Snap:
        import torch

        def snap(scaled: Tensor) -> Tensor:
            table, _ = _tables(scaled.device)
            return torch.index_select(table, 0, _place(scaled).flatten()).reshape(scaled.shape)

        return snap

    def _nearest(self, scaled: Tensor) -> Tensor:
        _, codes = _tables(scaled.device)
        return codes[_place(scaled)]

    def _level(self, codes: Tensor) -> Tensor:
        import torch

        return torch.tensor(LEVELS, dtype=torch.float32, device=codes.device)[codes.int()]

    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        return [_bits.join(codes, bits=4, run=16)]

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _bits.split(packed, bits=4, run=16)
