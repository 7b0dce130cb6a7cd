"""The two shapes of a 32-weight block: one scale, or one scale and one minimum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _search
from smidgen.formats._block import BlockFormat, Scales

if TYPE_CHECKING:
    from torch import Tensor


def as_bytes(values: Tensor) -> Tensor:
    """View float16 per block as its two bytes, [..., 2]."""
    import torch

    return values.half().contiguous()[..., None].view(torch.uint8)


def as_halves(packed: Tensor) -> Tensor:
    """View two bytes [..., 2] as float16 [...]."""
    import torch

    return packed.clone(memory_format=torch.contiguous_format).view(torch.float16)[..., 0]


def affine_scales(
    weights: Tensor, importance: Tensor, top: int, candidates: Sequence[tuple[float, float]]
) -> dict[str, Tensor]:
    """Find float16 scale ``d`` and offset ``dmin`` of every group; see `_search.affine` for the arguments."""
    import torch

    low, high = weights.amin(1), weights.amax(1)
    found = [_search.half(part) for part in _search.affine(weights, importance, top, candidates)]
    value = _search.error(weights, importance, found[0], found[1], top)
    plain = [_search.half((high - low) / top), _search.half(low)]
    other = _search.error(weights, importance, plain[0], plain[1], top)
    better = other <= value  # the plain range is exact where the weights came out of this format
    scale, offset = (torch.where(better, new, old) for new, old in zip(plain, found, strict=True))
    value = torch.minimum(value, other)
    counts = _search.spread(importance, len(weights))
    near = ((value > 0) & (value < 1e-4 * counts.sum(-1) * scale.float().square())).nonzero()[:, 0]
    if len(near):
        offset[near] = _shifted(weights[near], counts[near][:, None], scale[near], offset[near], top)
    return {"d": scale, "dmin": offset}


def _shifted(weights: Tensor, importance: Tensor, scale: Tensor, offset: Tensor, top: int) -> Tensor:
    """Try the offsets some whole scales lower, for weights that lie on a grid whose code 0 does not occur."""
    import torch

    best, value = offset, _search.error(weights, importance, scale, offset, top)
    for less in range(1, (top + 1) // 2):
        moved = _search.half(offset.float() - less * scale.float())
        other = _search.error(weights, importance, scale, moved, top)
        best, value = torch.where(other < value, moved, best), torch.minimum(other, value)
    return best


@dataclass(frozen=True)
class SymmetricBlock(BlockFormat):
    """32 weights with one float16 scale d; a weight is d * level.

    Attributes:
        multipliers: Levels (fractions allowed) at which the search tries the weight of greatest magnitude.
    """

    block_size: ClassVar[int] = 32
    group_size: ClassVar[int] = 32
    multipliers: ClassVar[Sequence[float]]

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        return {"d": _search.half(_search.symmetric(weights, importance, self.grid, self.multipliers))}

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        import torch

        scale = stored["d"].float()[..., None]
        return Scales(scale, torch.zeros_like(scale), stored)

    @abstractmethod
    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        """Return the fields after the scale."""

    @abstractmethod
    def _split_codes(self, packed: Tensor) -> Tensor:
        """Return the codes of the bytes after the scale."""

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        return [as_bytes(stored["d"]), *self._join_codes(codes)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._split_codes(packed[..., 2:]), {"d": as_halves(packed[..., :2])}


@dataclass(frozen=True)
class AffineBlock(BlockFormat):
    """32 weights with a float16 scale d and a float16 offset m; a weight is d * level + m.

    The offset is stored as ``dmin`` with the sign GGUF gives it, the opposite of `Scales.minimum`.

    Attributes:
        candidates: (multiplier, shift) pairs of the search, see `_search.affine`.
    """

    block_size: ClassVar[int] = 32
    group_size: ClassVar[int] = 32
    candidates: ClassVar[Sequence[tuple[float, float]]]

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        return affine_scales(weights, importance, int(self.levels[-1]), self.candidates)

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        return Scales(stored["d"].float()[..., None], -stored["dmin"].float()[..., None], stored)

    @abstractmethod
    def _join_codes(self, codes: Tensor) -> list[Tensor]:
        """Return the fields after scale and offset."""

    @abstractmethod
    def _split_codes(self, packed: Tensor) -> Tensor:
        """Return the codes of the bytes after scale and offset."""

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        return [as_bytes(stored["d"]), as_bytes(stored["dmin"]), *self._join_codes(codes)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._split_codes(packed[..., 4:]), {
            "d": as_halves(packed[..., :2]),
            "dmin": as_halves(packed[..., 2:4]),
        }
