"""The format table."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.formats._group import GroupFormat, require_one_of
from smidgen.formats.iq4_nl import IQ4_NL
from smidgen.formats.mxfp4 import MXFP4


def normal_levels() -> tuple[float, ...]:
    """Return the 16 levels of NF4 times 127: means of neighbouring quantiles of the normal distribution, and zero.

    Appendix E of arXiv 2305.14314: eight evenly spaced probabilities from δ to ½ and nine from ½ to 1 - δ, where
    δ = (1/32 + 1/30)/2, without the second ½, divided by the greatest.

    Example:
        >>> [round(level / 127, 4) for level in normal_levels()][:3]
        [-1.0, -0.6962, -0.5251]
    """
    from statistics import NormalDist

    outermost = 1 - (1 / 32 + 1 / 30) / 2
    quantile = NormalDist().inv_cdf
    positive = [quantile(0.5 + (outermost - 0.5) * step / 8) for step in range(1, 9)]
    negative = [-quantile(0.5 + (outermost - 0.5) * step / 7) for step in range(7, 0, -1)]
    return tuple(127 * value / positive[-1] for value in (*negative, 0.0, *positive))


TABLES = {"nf4": normal_levels(), "e2m1": MXFP4.levels, "iq4_nl": IQ4_NL.levels}


@dataclass(frozen=True)
class Table(GroupFormat):
    """The nearest of 16 fixed values under a float16 scale per group or row; 4 + 16/g bits per weight.

    weight = d * value of the code. NF4 holds values that a normal distribution takes equally often (QLoRA, arXiv
    2305.14314), E2M1 the 4-bit floats, IQ4_NL llama.cpp's own. Where the scale is searched as here, IQ4_NL loses
    least on most weights.

    Attributes:
        values: The table, ``nf4``, ``e2m1`` or ``iq4_nl``.
        group: Weights per scale, a multiple of 8; 0 for one scale per row (channel).

    Example:
        >>> import torch
        >>> weights = torch.tensor(TABLES["nf4"]).reshape(1, 16) / 127
        >>> (Table(group=16).unpack(Table(group=16).quantize(weights)) - weights).abs().max().item() < 1e-3
        True
    """

    values: str = "nf4"
    group: int = 64

    def __post_init__(self) -> None:
        require_one_of("table", self.values, tuple(TABLES))
        self._require_group()

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return 4

    @property
    def levels(self) -> tuple[float, ...]:
        """What the codes stand for."""
        return TABLES[self.values]
