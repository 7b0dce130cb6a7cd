"""The format Q4_K."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits, _search
from smidgen.formats._plain import as_bytes, as_halves
from smidgen.formats._sixes import from_sixes, sixes
from smidgen.formats._super import AffineSuperBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q4_K(AffineSuperBlock):
    """256 weights in 8 groups of 32, with 4-bit codes; 4.5 bits per weight.

    weight = d * scale * code - dmin * minimum, d and dmin float16 per block, scale and minimum 6-bit integers per
    group, code 0 … 15. In the file: d, dmin, 12 bytes of scales and minimums, 128 bytes of codes in runs of 32.
    The usual choice at this size where rows are multiples of 256.

    Example:
        >>> import torch
        >>> weights = torch.arange(256.0).remainder(16).reshape(1, 256) * 63
        >>> Q4_K().fit(weights).stored["d"].item(), Q4_K().fit(weights).scale[0, 0].item()
        (1.0, 63.0)
    """

    name: ClassVar[str] = "Q4_K"
    ggml_type: ClassVar[int] = 12
    type_size: ClassVar[int] = 144
    group_size: ClassVar[int] = 32
    levels: ClassVar[tuple[float, ...]] = tuple(range(16))
    highest: ClassVar[int] = 63
    candidates: ClassVar[tuple[tuple[float, float], ...]] = (
        *((15, 0), (14, 0), (13, 0), (12, 0), (14.5, 0), (15.5, -0.25), (16, -0.5)),
        *_search.clipped(15, (14.3, 15.5, 16, 16.7, 17.5, 18.5, 19.5)),
    )

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        scales = sixes(stored["scales"], stored["minimums"])
        return [as_bytes(stored["d"]), as_bytes(stored["dmin"]), scales, _bits.join(codes, bits=4, run=32)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        scales, minimums = from_sixes(packed[..., 4:16])
        stored = {"d": as_halves(packed[..., :2]), "dmin": as_halves(packed[..., 2:4])}
        return _bits.split(packed[..., 16:], bits=4, run=32), stored | {"scales": scales, "minimums": minimums}
