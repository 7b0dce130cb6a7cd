"""The format integer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.formats import _search
from smidgen.formats._block import Scales
from smidgen.formats._group import GroupFormat, require_one_of
from smidgen.formats._plain import affine_scales, as_bytes, as_halves

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array


@dataclass(frozen=True)
class Integer(GroupFormat):
    """Integers of 2 to 8 bits under a float16 scale per group or per row; b + 16/g bits per weight, affine b + 32/g.

    Symmetric: weight = d * code, code from -2**(b-1) to 2**(b-1) - 1. Affine: weight = d * code + m, code from 0 to
    2**b - 1, offset m a float16 too. What GPTQ, AWQ and most inference servers store. Source: Jacob 2018, arXiv
    1712.05877.

    Attributes:
        bits: Bits of a code, 2 to 8.
        group: Weights per scale, a multiple of 8; 0 for one scale per row (channel).
        symmetric: Whether zero is a code and there is no offset.
        shared: Whether all rows have the same scales: with ``group=0`` one scale for the whole tensor, which is written
            into every row, so that rows can be read alone.

    Example:
        >>> import torch
        >>> weights = torch.arange(-8.0, 8.0).repeat(2).reshape(1, 32) / 4
        >>> packed = Integer(bits=4, group=32).quantize(weights)
        >>> packed.shape[1], torch.equal(Integer(bits=4, group=32).unpack(packed), weights)
        (18, True)
    """

    bits: int = 8
    group: int = 64
    symmetric: bool = True
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
        return 2 if self.symmetric else 4

    @property
    def levels(self) -> tuple[float, ...]:
        """What the codes stand for."""
        half = 1 << (self.bits - 1) if self.symmetric else 0
        return tuple(range(-half, (1 << self.bits) - half))

    def _counted_codes(self) -> tuple[Array, Array]:
        first, second = super()._counted_codes()
        return first, second if self.symmetric else second * 0 + 1

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        if self.symmetric:
            return super()._fit(weights, importance)
        top = (1 << self.bits) - 1
        shares = (1, 0.97, 0.93, 0.88, 0.8, 1.04, 1.1)
        plain = tuple((share * top, (1 - share) * top / 2) for share in shares)
        spread = _search.clipped(top, tuple(top * share for share in (1.2, 1.4, 1.8)))
        return affine_scales(weights, importance, top, (*plain, *spread))

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        if self.symmetric:
            return super()._effective(stored)
        return Scales(stored["d"].float()[..., None], -stored["dmin"].float()[..., None], stored)

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        scale, *rest = super()._join(codes, stored)
        return [scale, *rest] if self.symmetric else [scale, as_bytes(stored["dmin"]), *rest]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        stored = {"d": as_halves(packed[..., :2])}
        if not self.symmetric:
            stored["dmin"] = as_halves(packed[..., 2:4])
        return self._split_codes(packed[..., self.scale_bytes :]), stored
