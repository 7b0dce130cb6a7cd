"""The format Q5_K."""

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
class Q5_K(AffineSuperBlock):
    """256 weights in 8 groups of 32, with 5-bit codes; 5.5 bits per weight.

    weight = d * scale * code - dmin * minimum as in Q4_K, code 0 … 31. In the file: d, dmin, 12 bytes of scales and
    minimums, 32 bytes of fifth bits, 128 bytes of lower bits. For tensors that Q4_K hurts too much.

    Example:
        >>> import torch
        >>> weights = torch.arange(256.0).remainder(32).reshape(1, 256) * 63
        >>> Q5_K().fit(weights).stored["d"].item(), Q5_K().fit(weights).scale[0, 0].item()
        (1.0, 63.0)
    """

    name: ClassVar[str] = "Q5_K"
    ggml_type: ClassVar[int] = 13
    type_size: ClassVar[int] = 176
    group_size: ClassVar[int] = 32
    levels: ClassVar[tuple[float, ...]] = tuple(range(32))
    highest: ClassVar[int] = 63
    candidates: ClassVar[tuple[tuple[float, float], ...]] = (
        *((31, 0), (30, 0), (29, 0), (28, 0), (30.5, 0), (31.5, -0.25), (32, -0.5)),
        *_search.clipped(31, (32.2, 33.3, 34.5, 36, 38)),
    )

    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        scales = sixes(stored["scales"], stored["minimums"])
        fifth = _bits.join(codes >> 4, bits=1, run=32)
        return [as_bytes(stored["d"]), as_bytes(stored["dmin"]), scales, fifth, _bits.join(codes, bits=4, run=32)]

    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        scales, minimums = from_sixes(packed[..., 4:16])
        stored = {"d": as_halves(packed[..., :2]), "dmin": as_halves(packed[..., 2:4])}
        fifth = _bits.split(packed[..., 16:48], bits=1, run=32) << 4
        codes = _bits.split(packed[..., 48:], bits=4, run=32) | fifth
        return codes, stored | {"scales": scales, "minimums": minimums}
