"""Formats whose blocks are groups of any size, or whole rows: they have no place in GGUF."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from smidgen.errors import InvalidInput
from smidgen.formats import _dense, _multiply, _search
from smidgen.formats._block import BlockFormat, Scales
from smidgen.formats._plain import as_bytes, as_halves

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array

SHARES = (1, *(1.06**step for step in range(-8, 45) if step))
"""Where the greatest weight is tried, as shares of the outermost level; beyond 1 it is clipped."""
Own = TypeVar("Own", bound="GroupFormat")


def reaches(levels: tuple[float, ...]) -> tuple[float, ...]:
    """Return the multipliers that `_search.symmetric` tries for some levels.

    Example:
        >>> reaches((-2, -1, 0, 1))[0], round(min(reaches((-2, -1, 0, 1))))
        (1, -26)
    """
    ends = (max(levels), min(levels))
    return tuple(end * share for end in ends for share in SHARES)


@dataclass(frozen=True)
class GroupFormat(BlockFormat):
    """A group of weights under one float16 scale d, then its codes; a weight is d * level."""

    @property
    @abstractmethod
    def group(self) -> int:
        """Weights per group; 0 where a group is a whole row."""

    @property
    @abstractmethod
    def code_bits(self) -> int:
        """Bits of a code."""

    @property
    def block_size(self) -> int:
        """Weights per block."""
        return self.group

    @property
    def group_size(self) -> int:
        """Weights that share a scale."""
        return self.group

    @property
    def scale_bytes(self) -> int:
        """Bytes per group that are not codes."""
        return 2

    @property
    def type_size(self) -> int:
        """Bytes per block."""
        return self.scale_bytes + self._code_bytes(self.group)

    def _code_bytes(self, weights: int) -> int:
        return weights * self.code_bits // 8

    def _columns_of(self, row_bytes: int) -> int:
        return (row_bytes - self.scale_bytes) * 8 // self.code_bits

    def _require_group(self) -> None:
        if self.group < 0 or self.group % 8:
            raise InvalidInput(
                f"A group of {self.group} weights cannot be stored.",
                remedy="Give a multiple of 8, or 0 for whole rows.",
            )

    def fits(self, columns: int) -> bool:
        """Say whether rows of this many weights can be stored."""
        return columns > 0 and columns % (self.group or 8) == 0

    def for_columns(self: Own, columns: int) -> Own:
        """Return the format with the group that whole rows of this length are."""
        return self if self.group else replace(self, **{"group": columns})

    def bytes_for(self, shape: tuple[int, ...]) -> int:
        """Count the bytes of a tensor whose rows run along its last dimension."""
        if self.group or not shape or not self.fits(shape[-1]):
            return super().bytes_for(shape)
        return self.for_columns(shape[-1]).bytes_for(shape)

    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Fit the scales of every group and pack the nearest codes, [rows, columns] to [rows, bytes per row]."""
        if self.group or weights.ndim != 2 or not self.fits(weights.shape[1]):
            return super().quantize(weights, importance)
        return self.for_columns(weights.shape[1]).quantize(weights, importance)

    def unpack_codes(self, packed: Tensor) -> tuple[Tensor, Scales]:
        """Read codes [rows, blocks, block_size] and stacked scales out of bytes; the inverse of `pack`."""
        if self.group:
            return super().unpack_codes(packed)
        return self.for_columns(self._columns_of(packed.shape[-1])).unpack_codes(packed)

    def unpack(self, packed: Tensor) -> Tensor:
        """Turn bytes [rows, bytes per row] into float32 weights [rows, columns]."""
        if not self.group:
            return self.for_columns(self._columns_of(packed.shape[-1])).unpack(packed)
        self._require_packed(packed)
        if packed.device.type != "cpu":
            return super().unpack(packed)
        return _multiply.unpack(self.loop(), packed, packed.shape[1] // self.type_size * self.group)

    def loop(self) -> Callable[[Array, Array], None]:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        import numpy as np

        from smidgen.formats import _loops

        first, second = self._counted_codes()
        scales, one = _loops.halves(), second is first
        if one and self.code_bits in (4, 8):
            if self.on_grid and self.grid.uniform:
                even, lowest = np.array([self.group, self.code_bits, 2]), self.levels[0]
                return lambda packed, out: _loops.evenly(packed, even, scales, lowest, out)
            table = np.array([self.group, self.code_bits])
            return lambda packed, out: _loops.looked_up(packed, table, scales, first, out)
        layout = np.array([self.group, self.code_bits, 2, 1 if one else 2])
        return lambda packed, out: _loops.groups(packed, layout, scales, first, second, out)

    def _counted_codes(self) -> tuple[Array, Array]:
        """Return what every code counts under the first scale and under the second; the same where there is one."""
        return self.grid.values, self.grid.values

    @property
    def rows_share(self) -> bool:
        """Whether groups at the same place of all rows have the same scale."""
        return False

    def _fitted(self, weights: Tensor, importance: Tensor | None) -> list[Scales]:
        if not self.rows_share:
            return super()._fitted(weights, importance)
        weights = weights.detach().cpu().float()
        rows, shape = len(weights), (len(weights), -1, self.group_size)
        counts = self._counts(weights, importance).expand(rows, -1, -1).transpose(0, 1).flatten(1)
        values = weights.reshape(shape).transpose(0, 1).flatten(1)
        stored = self._fit(values.contiguous(), counts[None].contiguous())
        return [self._effective({name: each.repeat(rows) for name, each in stored.items()})]

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        return {"d": _search.half(_search.symmetric(weights, importance, self.grid, reaches(self.levels)))}

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        import torch

        scale = stored["d"].float()[..., None]
        return Scales(scale, torch.zeros_like(scale), stored)

    def _join_codes(self, codes: Tensor) -> Tensor:
        return _dense.join(codes, self.code_bits)

    def _split_codes(self, packed: Tensor) -> Tensor:
        return _dense.split(packed, self.code_bits)

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        return [as_bytes(stored["d"]), self._join_codes(codes)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._split_codes(packed[..., 2:]), {"d": as_halves(packed[..., :2])}


def require_one_of(what: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse a parameter outside its few values.

    Raises:
        InvalidInput: It is none of them.
    """
    if value not in allowed:
        raise InvalidInput(f"The {what} is {value}.", remedy=f"Give one of {', '.join(map(str, allowed))}.")
