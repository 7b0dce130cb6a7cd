"""The format hierarchical."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smidgen.errors import Unsupported
from smidgen.formats._format import NumberFormat
from smidgen.formats._group import GroupFormat, require_one_of
from smidgen.formats._plain import as_bytes, as_halves

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array


@dataclass(frozen=True)
class Hierarchical(GroupFormat):
    """Integers as bit planes, the weightiest plane first: one stored tensor, read at any depth from 2 bits up.

    Read whole, weight = d * (code + ½ - 2**(b-1)), d a float16 per group or row. At depth k only the first k planes of
    every group are read, and a code stands for the middle of those that share its k upper bits. b + 16/g bits per
    weight stored, k + 16/g read. Source: Any-Precision LLM, arXiv 2402.10517, here on evenly spaced values.

    Attributes:
        bits: Planes stored, 2 to 8; the scale is chosen for all of them.
        depth: Planes read, 2 up to bits; 0 for all.
        group: Weights per scale, a multiple of 8; 0 for one scale per row (channel).

    Example:
        >>> import torch
        >>> weights = torch.tensor([[-7.0, -5, -3, -1, 1, 3, 5, 7]]) / 2
        >>> packed = Hierarchical(bits=3, group=8).quantize(weights)
        >>> [Hierarchical(3, depth, 8).unpack(packed)[0, 4:].tolist() for depth in (3, 2)]
        [[0.5, 1.5, 2.5, 3.5], [1.0, 1.0, 3.0, 3.0]]
    """

    bits: int = 8
    depth: int = 0
    group: int = 64

    def __post_init__(self) -> None:
        require_one_of("count of planes", self.bits, tuple(range(2, 9)))
        require_one_of("depth", self.depth, (0, *range(2, self.bits + 1)))
        self._require_group()

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return self.bits

    @property
    def levels(self) -> tuple[float, ...]:
        """What the codes stand for, at this depth."""
        unread = 1 << (self.bits - (self.depth or self.bits))
        middle = (unread - (1 << self.bits)) / 2
        return tuple((code - code % unread) + middle for code in range(1 << self.bits))

    def at(self, depth: int) -> Hierarchical:
        """Return the format that reads the same bytes at another depth."""
        return replace(self, depth=depth)

    def cut(self, packed: Tensor, depth: int) -> tuple[NumberFormat, Tensor]:
        """Keep the first planes of every group; see `NumberFormat.cut`.

        The scale grows by as many powers of two as planes go, so that every weight is what `at` reads.
        """
        import torch

        if not 2 <= depth <= self.bits:
            raise Unsupported(f"{self.name} is read at 2 to {self.bits} bits, not {depth}.")
        if not self.group:
            whole, kept = self.for_columns(self._columns_of(packed.shape[1])).cut(packed, depth)
            assert isinstance(whole, Hierarchical)
            return replace(whole, group=0), kept
        blocks = packed.reshape(len(packed), -1, self.type_size)
        scale = as_halves(blocks[..., :2]).float() * 2.0 ** (self.bits - depth)
        planes = blocks[..., 2 : 2 + depth * self.group // 8]
        kept = torch.cat([as_bytes(scale.clamp(-65504, 65504)), planes], -1).flatten(1)
        return replace(self, bits=depth, depth=0), kept

    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Pack every plane, whatever the depth to be read."""
        return super().quantize(weights, importance) if not self.depth else self.at(0).quantize(weights, importance)

    def loop(self) -> Callable[[Array, Array], None]:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        import numpy as np

        from smidgen.formats import _loops

        layout = np.array([self.group, self.bits, self.depth or self.bits])
        tables = _loops.halves(), _loops.spread(), self.grid.values
        return lambda packed, out: _loops.planes(packed, layout, *tables, out)

    def _join_codes(self, codes: Tensor) -> Tensor:
        import torch

        from smidgen.formats import _dense

        planes = [_dense.join(codes >> bit & 1, bits=1) for bit in reversed(range(self.bits))]
        return torch.cat(planes, -1)

    def _split_codes(self, packed: Tensor) -> Tensor:
        from smidgen.formats import _dense

        size = self.group // 8
        codes = _dense.split(packed[..., :size], bits=1)
        for plane in range(1, self.bits):
            codes = codes << 1
            if plane < (self.depth or self.bits):
                codes |= _dense.split(packed[..., plane * size : (plane + 1) * size], bits=1)
        return codes
