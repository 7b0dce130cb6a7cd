"""Super-blocks of 256 weights: float16 scales over small integer scales per group of 16 or 32.

Fitting goes from the groups upward and back: every group's own best scale, then the super-scale whose integer
multiples come nearest to them, then, in turns, the neighbouring integers per group and the super-scales that fit
the resulting codes best in closed form. A turn is kept only where it lowers the error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _search
from smidgen.formats._block import BlockFormat, Scales

if TYPE_CHECKING:
    from torch import Tensor


def _keep(better: Tensor, new: dict[str, Tensor], old: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take the new entries of the super-blocks where better [blocks] holds, the old ones elsewhere."""
    import torch

    return {name: torch.where(better if new[name].ndim == 1 else better[:, None], new[name], old[name]) for name in new}


def _totals(importance: Tensor, groups: Tensor) -> Tensor:
    """Sum the importance of every group, in the shape of groups [blocks, groups]."""
    return _search.spread(importance, groups.numel()).sum(-1).reshape(groups.shape)


def _integers_of(values: Tensor, unit: Tensor, low: int, high: int) -> Tensor:
    return (values * _search.inverse(unit.float())[:, None]).round_().clamp_(low, high)


@dataclass(frozen=True)
class SuperBlock(BlockFormat):
    """256 weights in groups, the scale of a group being float16 d times a small integer.

    Attributes:
        lowest: The least integer scale.
        highest: The greatest integer scale.
        turns: How often integers and super-scales are improved in turn.
    """

    block_size: ClassVar[int] = 256
    lowest: ClassVar[int]
    highest: ClassVar[int]
    turns: ClassVar[int] = 1

    @property
    def _groups(self) -> int:
        return self.block_size // self.group_size

    def _super_scale(self, values: Tensor, importance: Tensor) -> Tensor:
        """Find float16 d [blocks] whose multiples lie nearest to the group scales [blocks, groups]."""
        span = max(self.highest, -self.lowest)
        signs = (-1, 1) if self.lowest < 0 else (1,)
        whole = [sign * (span - less) for sign in signs for less in range(span // 2)][:: max(1, span // 64)]
        between = [sign * span * (1 - share / 50) for sign in signs for share in (-2, -1, 0.5, 1, 1.5, 2, 2.5, 3, 4)]
        return _search.half(_search.common_unit(values, importance, self.lowest, self.highest, whole + between))


@dataclass(frozen=True)
class SymmetricSuperBlock(SuperBlock):
    """A super-block without minimums: a weight is d * scale of its group * level.

    Attributes:
        multipliers: Levels at which the search tries the weight of greatest magnitude.
    """

    multipliers: ClassVar[Sequence[float]]

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        import torch

        groups = self._groups
        free = _search.symmetric(weights, importance, self.grid, self.multipliers).reshape(-1, groups)
        d = self._super_scale(free, _totals(importance, free))
        best, sums = self._improved(weights, importance, d, _integers_of(free, d, self.lowest, self.highest))
        for _ in range(self.turns):
            norm = (best["scales"].square() * sums["square"]).sum(1)
            d = _search.half((best["scales"] * sums["product"]).sum(1) / norm.clamp(min=1e-30))
            found, new_sums = self._improved(weights, importance, d, best["scales"])
            better = found["error"] < best["error"]
            best, sums = _keep(better, found, best), _keep(better, new_sums, sums)
        return {"d": best["d"], "scales": best["scales"].to(torch.int8)}

    def _improved(
        self, weights: Tensor, importance: Tensor, d: Tensor, scales: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Try the neighbouring integers of every group; return the best and the sums for refitting d."""
        unit = d.float()[:, None].expand_as(scales).flatten()
        kept, sums = _search.neighbours(weights, importance, self.grid, unit, (self.lowest, self.highest), scales)
        error, square, product = (part.reshape(scales.shape) for part in sums)
        best = {"d": d, "scales": kept.reshape(scales.shape), "error": error.sum(1)}
        return best, {"square": square, "product": product}

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        import torch

        scale = stored["d"].float()[..., None] * stored["scales"].float()
        return Scales(scale, torch.zeros_like(scale), stored)


@dataclass(frozen=True)
class AffineSuperBlock(SuperBlock):
    """A super-block with minimums: a weight is d * scale * level - dmin * minimum, both integers per group.

    Attributes:
        candidates: (multiplier, shift) pairs of the search, see `_search.affine`.
    """

    lowest: ClassVar[int] = 0
    candidates: ClassVar[Sequence[tuple[float, float]]]

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        import torch

        groups, top = self._groups, int(self.levels[-1])
        scale, offset = _search.affine(weights, importance, top, self.candidates, nonpositive=True)
        free, least = scale.reshape(-1, groups), -offset.reshape(-1, groups)
        counts = _totals(importance, free)
        d, dmin = self._super_scale(free, counts), self._super_scale(least, counts)
        start = {
            "d": d,
            "dmin": dmin,
            "scales": _integers_of(free, d, 0, self.highest),
            "minimums": _integers_of(least, dmin, 0, self.highest),
        }
        best, sums = self._improved(weights, importance, start)
        for _ in range(self.turns):
            found, new_sums = self._improved(weights, importance, self._refitted(best, sums))
            better = found["error"] < best["error"]
            best, sums = _keep(better, found, best), _keep(better, new_sums, sums)
        whole = {name: best[name].to(torch.uint8) for name in ("scales", "minimums")}
        return {"d": best["d"], "dmin": best["dmin"], **whole}

    def _refitted(self, best: dict[str, Tensor], sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Solve for the d and dmin that fit the present codes and integers best."""
        import torch

        scales, minimums = best["scales"], best["minimums"]
        ss = (scales.square() * sums["square"]).sum(1)
        sm = -(scales * minimums * sums["level"]).sum(1)
        mm = (minimums.square() * sums["total"]).sum(1)
        sw = (scales * sums["product"]).sum(1)
        mw = -(minimums * sums["weight"]).sum(1)
        free = ss * mm - sm.square()
        sound = free > 1e-5 * ss * mm
        alone = sw / ss.clamp(min=1e-30)
        d = torch.where(sound, (mm * sw - sm * mw) / free, torch.where(mm > 0, best["d"].float(), alone))
        dmin = torch.where(sound, (ss * mw - sm * sw) / free, best["dmin"].float())
        return best | {"d": _search.half(d), "dmin": _search.half(dmin)}

    def _improved(
        self, weights: Tensor, importance: Tensor, start: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Try the neighbouring integer scales of every group, each with the minimum that suits it best."""
        import torch

        shape = start["scales"].shape
        units = torch.stack([start[name].float()[:, None].expand(shape).flatten() for name in ("d", "dmin")])
        integers = torch.stack([start[name].flatten() for name in ("scales", "minimums")])
        top = int(self.levels[-1])
        found, sums = _search.neighbours_with_minimum(weights, importance, top, units, self.highest, integers)
        error, square, level, product, total, weight = (part.reshape(shape) for part in sums)
        best = {"d": start["d"], "dmin": start["dmin"], "error": error.sum(1)}
        best |= {"scales": found[0].reshape(shape), "minimums": found[1].reshape(shape)}
        named = {"square": square, "level": level, "product": product, "total": total, "weight": weight}
        return best, named

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        scale = stored["d"].float()[..., None] * stored["scales"].float()
        return Scales(scale, stored["dmin"].float()[..., None] * stored["minimums"].float(), stored)
