"""The format float8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.formats import _search
from smidgen.formats._group import GroupFormat, require_one_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from smidgen.compiled import Array

HIGHEST = 448.0
"""The greatest E4M3 float; the greatest weight of a group is put there in E5M2 too, so that scales stay in range."""
KINDS = ("e4m3", "e5m2")


@dataclass(frozen=True)
class Float8(GroupFormat):
    """Floats of 8 bits under a float16 scale per group or per row; 8 + 16/g bits per weight.

    weight = d * float8, d the group's greatest size / 448. E4M3 has 3 fraction bits and suits weights, E5M2 has 2 and
    a wider range. What recent GPUs compute in. Source: arXiv 2209.05433.

    Attributes:
        kind: ``e4m3`` or ``e5m2``.
        group: Weights per scale, a multiple of 8; 0 for one scale per row (channel).

    Example:
        >>> import torch
        >>> weights = torch.tensor([[448.0, 416, 0.5, 0, -1, -2, -3, 26]])
        >>> torch.equal(Float8().unpack(Float8().quantize(weights)), weights)
        True
    """

    kind: str = "e4m3"
    group: int = 0

    def __post_init__(self) -> None:
        require_one_of("kind of float", self.kind, KINDS)
        self._require_group()

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return 8

    @property
    def on_grid(self) -> bool:
        """Whether a weight is a scale times one of few levels."""
        return False

    @property
    def levels(self) -> tuple[float, ...]:
        """The finite floats that a scaled weight may become, ascending."""
        import torch

        every = torch.arange(256, dtype=torch.uint8).view(self._dtype()).float()
        return tuple(sorted({value for value in every.tolist() if abs(value) <= HIGHEST}))

    def _dtype(self) -> torch.dtype:
        import torch

        return torch.float8_e4m3fn if self.kind == "e4m3" else torch.float8_e5m2

    def encode(self, values: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return the bits of the nearest float."""
        import torch

        scaled = (values.float() * _search.inverse(scale)).clamp_(-HIGHEST, HIGHEST)
        return scaled.to(self._dtype()).view(torch.uint8)

    def decode(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return what the bits stand for."""
        return codes.contiguous().view(self._dtype()).float().mul_(scale)

    def _counted_codes(self) -> tuple[Array, Array]:
        import torch

        every = torch.arange(256, dtype=torch.uint8).view(self._dtype()).float().numpy()
        return every, every

    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        return {"d": _search.half(weights.abs().amax(1) / HIGHEST)}
