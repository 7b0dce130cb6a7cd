"""The format binary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.formats import _search
from smidgen.formats._block import Scales
from smidgen.formats._group import GroupFormat, require_one_of
from smidgen.formats._plain import as_bytes, as_halves

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array

ROUNDS = 8


@dataclass(frozen=True)
class Binary(GroupFormat):
    """The sign of every weight under one scale, and of what remains under another; r (1 + 16/g) bits per weight.

    residual=1: weight = α * sign(w), α = Σ h|w| / Σ h of the group (XNOR-Net, arXiv 1603.05279). residual=2: weight =
    α * s + β * t with two signs (BiLLM, arXiv 2402.04291, for its salient weights), found by turns: the signs
    nearest to the weights, then α and β by least squares. Scales are float16. Only with healing afterwards.

    Attributes:
        residual: Signs per weight, 1 or 2.
        group: Weights per scale, a multiple of 8; 0 for one scale per row (channel).

    Example:
        >>> import torch
        >>> weights = torch.tensor([[4.0, 2, -2, -4, 4, 2, -2, -4]])
        >>> Binary(residual=1, group=8).unpack(Binary(residual=1, group=8).quantize(weights))[0, :2].tolist()
        [3.0, 3.0]
        >>> torch.equal(Binary(residual=2, group=8).unpack(Binary(residual=2, group=8).quantize(weights)), weights)
        True
    """

    residual: int = 1
    group: int = 64

    def __post_init__(self) -> None:
        require_one_of("count of signs", self.residual, (1, 2))
        self._require_group()

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return self.residual

    @property
    def scale_bytes(self) -> int:
        """Bytes per group that are not codes."""
        return 2 * self.residual

    @property
    def levels(self) -> tuple[float, ...]:
        """The signs; with two of them the first counts thrice the second, which real groups only come near to."""
        return (-1, 1) if self.residual == 1 else (-3, -1, 1, 3)

    @property
    def on_grid(self) -> bool:
        """Whether a weight is a scale times a level."""
        return self.residual == 1

    def encode(self, values: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return the code whose value lies nearest: its lower bit is the first sign, the next the second."""
        import torch

        if self.residual == 1:
            return (values >= 0).to(torch.uint8)
        first = values >= 0
        second = (values.abs() >= scale) ^ ~first
        return first.to(torch.uint8) | (second.to(torch.uint8) << 1)

    def decode(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return what codes stand for; minimum is the second scale."""
        first = (codes & 1).float().mul_(2).sub_(1).mul_(scale)
        return first if self.residual == 1 else first.add_((codes >> 1).float().mul_(2).sub_(1).mul_(minimum))

    def _counted_codes(self) -> tuple[Array, Array]:
        import numpy as np

        first, second = np.array([-1, 1, -1, 1], np.float32), np.array([-1, -1, 1, 1], np.float32)
        return (first, first) if self.residual == 1 else (first, second)

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        import torch

        counts = _search.spread(importance, len(weights))
        total, sizes = counts.sum(1), weights.abs()
        alpha = (counts * sizes).sum(1) / total
        if self.residual == 1:
            return {"d": _search.half(alpha)}
        beta = (counts * (sizes - alpha[:, None]).abs()).sum(1) / total
        for _ in range(ROUNDS):
            # By symmetry only sizes matter: a size is α + β or α - β, the boundary between them is α.
            outer = (sizes >= alpha[:, None]).float().mul_(2).sub_(1)
            common, outer_size = (counts * outer).sum(1) / total, (counts * outer * sizes).sum(1) / total
            mean = (counts * sizes).sum(1) / total
            free = 1 - common.square()
            sound = free > 1e-4  # else all sizes lie on one side: they are nearly alike, and α alone is their mean
            free = torch.where(sound, free, torch.ones_like(free))
            alpha = torch.where(sound, (mean - common * outer_size) / free, mean)
            beta = torch.where(sound, (outer_size - common * mean) / free, torch.zeros_like(mean))
        return {"d": _search.half(alpha), "dmin": _search.half(beta)}

    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        if self.residual == 1:
            return super()._effective(stored)
        return Scales(stored["d"].float()[..., None], stored["dmin"].float()[..., None], stored)

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        scale, *rest = super()._join(codes, stored)
        return [scale, *rest] if self.residual == 1 else [scale, as_bytes(stored["dmin"]), *rest]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        stored = {"d": as_halves(packed[..., :2])}
        if self.residual == 2:
            stored["dmin"] = as_halves(packed[..., 2:4])
        return self._split_codes(packed[..., self.scale_bytes :]), stored
