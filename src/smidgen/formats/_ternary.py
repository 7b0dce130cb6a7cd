"""Blocks of 256 weights of a few levels around zero, under one scale that stands behind the codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats._plain import SymmetricBlock, as_bytes, as_halves

if TYPE_CHECKING:
    from torch import Tensor

REACHES = tuple(1.09**step for step in range(42))
"""Where the greatest weight is tried, up to 34 levels out: most weights of a long-tailed block lie far below it."""
DIGITS, LONGEST = 5, 3**5


@dataclass(frozen=True)
class TernaryBlock(SymmetricBlock):
    """256 weights with one float16 scale d after the codes; a weight is d * level."""

    block_size: ClassVar[int] = 256
    group_size: ClassVar[int] = 256

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        return [*self._join_codes(codes), as_bytes(stored["d"])]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._split_codes(packed[..., :-2]), {"d": as_halves(packed[..., -2:])}


def join_digits(codes: Tensor, run: int) -> Tensor:
    """Lay digits 0, 1, 2 [..., n] into bytes, five to a byte (fewer where n holds fewer runs), the first weighing most.

    The five digits are a number v below 243, stored as the byte nearest above v * 256 / 243: its product with 3 then
    carries the first digit over the byte's end, the next product the second one, and so on.

    Args:
        codes: uint8 [..., n].
        run: Digits that stand side by side before the next place begins.

    Example:
        >>> import torch
        >>> join_digits(torch.tensor([2, 1, 0, 0, 0], dtype=torch.uint8), run=1).tolist()
        [200]
    """
    import torch

    digits = min(DIGITS, codes.shape[-1] // run)
    parts = codes.reshape(*codes.shape[:-1], -1, digits, run).to(torch.int32)
    places = torch.tensor([3 ** (DIGITS - 1 - place) for place in range(digits)], dtype=torch.int32)
    number = (parts * places[:, None].to(codes.device)).sum(-2)
    return ((number * 256 + LONGEST - 1) // LONGEST).to(torch.uint8).flatten(-2)


def split_digits(packed: Tensor, run: int, digits: int = DIGITS) -> Tensor:
    """Take digits out of bytes; the inverse of `join_digits`.

    Example:
        >>> import torch
        >>> split_digits(torch.tensor([200], dtype=torch.uint8), run=1).tolist()
        [2, 1, 0, 0, 0]
    """
    import torch

    runs = packed.reshape(*packed.shape[:-1], -1, 1, run).to(torch.int32)
    places = torch.tensor([3**place for place in range(digits)], dtype=torch.int32, device=packed.device)
    return (((runs * places[:, None] & 255) * 3) >> 8).to(torch.uint8).flatten(-3)
