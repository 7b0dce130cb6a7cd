"""The format Q2_K."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats import _bits, _search
from smidgen.formats._plain import as_bytes, as_halves
from smidgen.formats._super import AffineSuperBlock

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Q2_K(AffineSuperBlock):
    """256 weights in 16 groups of 16, with 2-bit codes; 2.625 bits per weight.

    weight = d * scale * code - dmin * minimum, d and dmin float16 per block, scale and minimum 4-bit integers per
    group, code 0 … 3. In the file: 16 bytes of scales and minimums, 64 bytes of codes, d, dmin. Only for tensors
    that hardly matter, or with healing afterwards.

    Example:
        >>> import torch
        >>> weights = torch.arange(256.0).remainder(4).reshape(1, 256) * 15
        >>> Q2_K().fit(weights).stored["d"].item(), Q2_K().fit(weights).scale[0, 0].item()
        (1.0, 15.0)
    """

    name: ClassVar[str] = "Q2_K"
    ggml_type: ClassVar[int] = 10
    type_size: ClassVar[int] = 84
    group_size: ClassVar[int] = 16
    levels: ClassVar[tuple[float, ...]] = tuple(range(4))
    highest: ClassVar[int] = 15
    candidates: ClassVar[tuple[tuple[float, float], ...]] = (
        *((3, 0), (2, 0), (2, 0.5), (2.5, 0), (2.5, 0.25), (2.5, 0.5), (3.5, -0.25), (3.5, 0), (3.5, -0.5)),
        *((4, -0.5), (4, 0), (4, -1), (4.5, -0.75), (5, -1), (3, -0.3), (3, 0.3)),
        *_search.clipped(3, (5, 6)),
    )

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        scales = stored["scales"] | (stored["minimums"] << 4)
        return [scales, _bits.join(codes, bits=2, run=32), as_bytes(stored["d"]), as_bytes(stored["dmin"])]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        stored = {"d": as_halves(packed[..., 80:82]), "dmin": as_halves(packed[..., 82:])}
        integers = {"scales": packed[..., :16] & 15, "minimums": packed[..., :16] >> 4}
        return _bits.split(packed[..., 16:80], bits=2, run=32), stored | integers
