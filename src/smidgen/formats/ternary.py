"""The format ternary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats._group import GroupFormat
from smidgen.formats._ternary import DIGITS, join_digits, split_digits

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array


@dataclass(frozen=True)
class Ternary(GroupFormat):
    """Minus, nothing or plus one scale: five weights to a byte; 1.6 + 16/g bits per weight.

    weight = d * (digit - 1), d a float16 per group or row, searched so that the error is least (the absmean scale of
    BitNet b1.58, arXiv 2402.17764, is one of what it may find). Rows need no multiple of 256, which TQ1_0 asks for.
    For models trained to it, or with healing afterwards.

    Attributes:
        group: Weights per scale, a multiple of 8; 0 for one scale per row (channel).

    Example:
        >>> import torch
        >>> weights = torch.tensor([[-0.5, 0, 0.5, 0.5, 0, -0.5, 0, 0]])
        >>> Ternary(group=8).quantize(weights).shape[1], Ternary(group=8).fit(weights).scale.item()
        (4, 0.5)
    """

    group: int = 0
    levels: ClassVar[tuple[float, ...]] = (-1, 0, 1)

    def __post_init__(self) -> None:
        self._require_group()

    @property
    def code_bits(self) -> int:
        """Bits of a code that stands alone."""
        return 2

    def _code_bytes(self, weights: int) -> int:
        return -(-weights // DIGITS)

    def _columns_of(self, row_bytes: int) -> int:
        # Rows are multiples of 8, and of five places behind one another at most one is that.
        weights = (row_bytes - self.scale_bytes) * DIGITS
        return weights - weights % 8

    def loop(self) -> Callable[[Array, Array], None]:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        from smidgen.formats import _loops

        size, scales = self.group, _loops.halves()
        return lambda packed, out: _loops.digits(packed, size, scales, out)

    def _join_codes(self, codes: Tensor) -> Tensor:
        import torch

        padded = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % DIGITS))
        return join_digits(padded, run=1)

    def _split_codes(self, packed: Tensor) -> Tensor:
        return split_digits(packed, run=1)[..., : self.group].contiguous()
