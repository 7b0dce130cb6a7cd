"""The format float4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smidgen.formats._group import GroupFormat
from smidgen.formats.mxfp4 import MXFP4


@dataclass(frozen=True)
class Float4(GroupFormat):
    """Floats of 4 bits (E2M1) under a float16 scale per group or per row; 4 + 16/g bits per weight.

    weight = d * level / 2 with level of 0, 1, 2, 3, 4, 6, 8, 12 and their negatives: 1 sign, 2 exponent and 1
    fraction bit. MXFP4 without its coarse scale. Source: OCP Microscaling Formats specification 1.0, 2023.

    Attributes:
        group: Weights per scale, a multiple of 8; 0 for one scale per row (channel).

    Example:
        >>> import torch
        >>> weights = torch.tensor([0, 0.5, -1, 1.5, -2, 3, -4, 6]).reshape(1, 8) / 3
        >>> Float4(group=8).unpack(Float4(group=8).quantize(weights)).sub(weights).abs().max().item() < 1e-3
        True
    """

    group: int = 32
    levels: ClassVar[tuple[float, ...]] = MXFP4.levels

    def __post_init__(self) -> None:
        self._require_group()

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return 4
