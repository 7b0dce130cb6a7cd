"""The format tiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.formats import _dense, _multiply
from smidgen.formats._block import require_importance
from smidgen.formats._codebook import TieredFormat
from smidgen.formats._format import NumberFormat, require_finite
from smidgen.formats._group import GroupFormat, require_one_of
from smidgen.formats.binary import Binary
from smidgen.formats.hierarchical import Hierarchical

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array
    from smidgen.formats._block import BlockFormat

UNIT = 8
"""Neighbouring weights that share a tier: as many as fill a byte of a bit plane."""


@lru_cache(256)
def _columns(kind: Tiers, row_bytes: int) -> int:
    """Return how many weights the shortest row has that takes so many bytes or more."""
    columns = kind.group
    while kind._row_bytes(columns) < row_bytes:
        columns += kind.group
    return columns


@dataclass(frozen=True)
class Tiers(TieredFormat):
    """The most important weights first: of every row some weights in most bits, some in fewer, the rest in fewest.

    Units of 8 neighbouring weights are ranked by Σ w² h inside their row, h the importance (diag(H) of the layer's
    inputs). The first ``top`` percent are stored in ``high`` bits, the next ``second`` percent in ``middle`` bits, the
    others in ``low`` bits, each tier as bit planes of its own scales (see `hierarchical`) or, with 1 bit, as signs. Two
    bits per unit say which tier it is in. Bits per weight: the mean of the three, 0.25 and 16/g more. Read at a depth,
    every tier gives its first planes only. Sources: SpQR, arXiv 2306.03078; Any-Precision LLM, arXiv 2402.10517.

    Attributes:
        high: Bits of the most important weights, 2 to 8.
        middle: Bits of those after them, 2 to 8.
        low: Bits of the rest, 1 to 8.
        top: Percent of a row in most bits; counted in whole groups.
        second: Percent of a row in the middle.
        group: Weights of one tier that share a scale, a multiple of 8; rows must divide into groups.

    Example:
        >>> import torch
        >>> weights = torch.cat([torch.full((1, 8), 0.01), torch.linspace(-8, 8, 8)[None]], 1)
        >>> tiers = Tiers(low=1, top=50, second=0, group=8)
        >>> (tiers.unpack(tiers.quantize(weights)) - weights).abs().max().item() < 0.04
        True
    """

    high: int = 8
    middle: int = 4
    low: int = 2
    top: int = 5
    second: int = 25
    group: int = 64

    def __post_init__(self) -> None:
        for what, bits, least in (("high", self.high, 2), ("middle", self.middle, 2), ("low", self.low, 1)):
            require_one_of(f"count of {what} bits", bits, tuple(range(least, 9)))
        if not (0 <= self.top <= 100 and 0 <= self.second <= 100 - self.top):
            raise InvalidInput(
                f"{self.top} and {self.second} percent of a row cannot be its first two tiers.",
                remedy="Give shares that make up 100 at most.",
            )
        if self.group < UNIT or self.group % UNIT:
            raise InvalidInput(f"A group of {self.group} weights cannot be stored.", remedy="Give a multiple of 8.")

    @property
    def block_size(self) -> int:
        """Weights that a row's length must be a multiple of."""
        return self.group

    @property
    def type_size(self) -> int:
        """Bytes of a group in most bits."""
        return self._of(self.high).type_size

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight of a long row costs."""
        first, second = self.top / 100, self.second / 100
        mean = first * self.high + second * self.middle + (1 - first - second) * self.low
        return mean + 2 / UNIT + 16 / self.group

    def _of(self, bits: int) -> GroupFormat:
        return Binary(group=self.group) if bits == 1 else Hierarchical(bits=bits, group=self.group)

    def _tiers(self, columns: int) -> list[tuple[GroupFormat, int]]:
        """Return format and count of weights of every tier of a row."""
        groups = columns // self.group
        first = min(groups, max(round(groups * self.top / 100), int(self.top > 0)))
        second = min(groups - first, max(round(groups * self.second / 100), int(self.second > 0)))
        counts = (first, second, groups - first - second)
        formats = map(self._of, (self.high, self.middle, self.low))
        return [(kind, count * self.group) for kind, count in zip(formats, counts, strict=True)]

    def _map_bytes(self, columns: int) -> int:
        return -(-columns // UNIT // 8) * 2

    def _row_bytes(self, columns: int) -> int:
        sizes = [count // self.group * kind.type_size for kind, count in self._tiers(columns)]
        return self._map_bytes(columns) + sum(sizes)

    def _columns_of(self, row_bytes: int) -> int:
        columns = _columns(self, row_bytes)
        if self._row_bytes(columns) != row_bytes:
            raise DamagedFile(f"{self.name} has no rows of {row_bytes} bytes.")
        return columns

    def bytes_for(self, shape: tuple[int, ...]) -> int:
        """Count the bytes of a tensor, the map of the tiers included."""
        import math

        super().bytes_for(shape)  # refuses rows that do not divide into groups
        return math.prod(shape[:-1]) * self._row_bytes(shape[-1])

    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Rank the units of every row and pack each in the bits of its tier."""
        import torch

        self.bytes_for(tuple(weights.shape))
        require_finite(weights)
        require_importance(importance, weights)
        whole = weights.detach().cpu().float()
        rows, columns = whole.shape
        counts = torch.ones(1, columns) if importance is None else importance.detach().cpu().float()
        counts = counts.expand(rows, columns)
        parts = []
        for kind, places in self.divide(whole.square() * counts):
            chosen = counts.gather(1, places).clamp(min=1e-30 * float(counts.max()))
            parts.append((places, kind.quantize(whole.gather(1, places), chosen)))
        return self.gather(parts, columns)

    def divide(self, score: Tensor) -> list[tuple[BlockFormat, Tensor]]:
        """Rank the units of every row; see `TieredFormat.divide`."""
        import torch

        order = score.reshape(len(score), -1, UNIT).sum(-1).argsort(dim=1, descending=True, stable=True)
        parts: list[tuple[BlockFormat, Tensor]] = []
        start = 0
        for kind, count in self._tiers(score.shape[1]):
            chosen = order[:, start : start + count // UNIT].sort(1).values
            start += count // UNIT
            if count:
                parts.append((kind, (chosen[..., None] * UNIT + torch.arange(UNIT)).flatten(1)))
        return parts

    def gather(self, parts: list[tuple[Tensor, Tensor]], columns: int) -> Tensor:
        """Put the map of the tiers before them; see `TieredFormat.gather`."""
        import torch

        filled = [number for number, (_, count) in enumerate(self._tiers(columns)) if count]
        tier = torch.zeros(len(parts[0][0]), self._map_bytes(columns) * 4, dtype=torch.uint8)
        for number, (places, _) in zip(filled, parts, strict=True):
            tier.scatter_(1, places[:, ::UNIT] // UNIT, number)
        return torch.cat([_dense.join(tier, bits=2), *(packed for _, packed in parts)], 1)

    def unpack(self, packed: Tensor) -> Tensor:
        """Turn bytes [rows, bytes per row] into float32 weights [rows, columns]."""
        import torch

        if packed.dtype != torch.uint8 or packed.ndim != 2:
            raise DamagedFile(f"{self.name} is read from rows of bytes, not from {packed.dtype} {tuple(packed.shape)}.")
        return _multiply.unpack(self.loop(), packed, self._columns_of(packed.shape[1]))

    def loop(self) -> Callable[[Array, Array], None]:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        import numpy as np

        from smidgen.formats import _loops

        def read(packed: Array, out: Array) -> None:
            columns = out.shape[1]
            begin, place = self._map_bytes(columns), 0
            gathered = np.empty((len(packed), columns), np.float32)
            starts = []
            for kind, count in self._tiers(columns):
                size, part = count // self.group * kind.type_size, np.empty((len(packed), count), np.float32)
                kind.loop()(np.ascontiguousarray(packed[:, begin : begin + size]), part)
                gathered[:, place : place + count] = part
                starts.append(place)
                begin, place = begin + size, place + count
            _loops.scattered(packed, np.array(starts), UNIT, gathered, out)

        return read

    def cut(self, packed: Tensor, depth: int) -> tuple[NumberFormat, Tensor]:
        """Keep the first planes of every tier; see `NumberFormat.cut`."""
        import torch

        most = max(self.high, self.middle, self.low)
        if not 2 <= depth <= most:
            raise Unsupported(f"{self.name} is read at 2 to {most} bits, not {depth}.")
        columns = self._columns_of(packed.shape[1])
        begin = self._map_bytes(columns)
        parts, bits = [packed[:, :begin]], []
        for kind, count in self._tiers(columns):
            size = count // self.group * kind.type_size
            part = packed[:, begin : begin + size]
            begin += size
            if count and kind.code_bits > depth:
                _, part = kind.cut(part.contiguous(), depth)
            bits.append(min(kind.code_bits, depth))
            parts.append(part)
        high, middle, low = bits
        return replace(self, high=high, middle=middle, low=low), torch.cat(parts, 1)
