"""The format fixed_point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.formats import _search
from smidgen.formats._block import Scales
from smidgen.formats._group import GroupFormat, require_one_of

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array


@dataclass(frozen=True)
class FixedPoint(GroupFormat):
    """Signed fixed point Qm.n: integers of 2 to 8 bits times 2**-n; b + 8/g bits per weight.

    weight = code * 2**-n, code from -2**(b-1) to 2**(b-1) - 1, n one signed byte per group or row, chosen so that the
    error is least. No multiplier is needed to apply the scale, only a shift: for processors without floats. Source:
    Lin 2016, arXiv 1511.06393.

    Attributes:
        bits: Bits of a code, sign included, 2 to 8.
        group: Weights that share n, a multiple of 8; 0 for whole rows (channels).
        shared: Whether all rows have the same n: with ``group=0`` one for the whole tensor.

    Example:
        >>> import torch
        >>> weights = torch.arange(-4.0, 4.0).reshape(1, 8) / 8  # Q0.3: n = 3, codes -4 … 3
        >>> packed = FixedPoint(bits=3, group=8).quantize(weights)
        >>> packed[0, 0].item(), torch.equal(FixedPoint(bits=3, group=8).unpack(packed), weights)
        (3, True)
    """

    bits: int = 8
    group: int = 0
    shared: bool = False

    def __post_init__(self) -> None:
        require_one_of("count of bits", self.bits, tuple(range(2, 9)))
        self._require_group()

    @property
    def rows_share(self) -> bool:
        """Whether groups at the same place of all rows have the same scale."""
        return self.shared

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return self.bits

    @property
    def scale_bytes(self) -> int:
        """Bytes per group that are not codes."""
        return 1

    @property
    def levels(self) -> tuple[float, ...]:
        """What the codes stand for."""
        return tuple(range(-(1 << (self.bits - 1)), 1 << (self.bits - 1)))

    def loop(self) -> Callable[[Array, Array], None]:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        import numpy as np

        from smidgen.formats import _loops

        scales, values, lowest = _loops.powers(), self.grid.values, self.levels[0]
        if self.bits in (4, 8):
            even = np.array([self.group, self.bits, 1])
            return lambda packed, out: _loops.evenly(packed, even, scales, lowest, out)
        layout = np.array([self.group, self.bits, 1, 1])
        return lambda packed, out: _loops.groups(packed, layout, scales, values, values, out)

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        import torch

        found = _search.power(weights, importance, self.grid, range(-1, 4 if self.bits > 4 else 6))
        return {"n": found.neg_().clamp_(-124, 120).to(torch.int8)}

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        import torch

        exponent = -stored["n"].to(torch.int32)[..., None]
        scale = torch.ldexp(torch.ones(exponent.shape, device=exponent.device), exponent)
        return Scales(scale, torch.zeros_like(scale), stored)

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        return [stored["n"][..., None].contiguous().view(codes.dtype), self._join_codes(codes)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        return self._split_codes(packed[..., 1:]), {"n": packed[..., :1].contiguous().view(torch.int8)[..., 0]}
