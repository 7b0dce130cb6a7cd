"""The format F16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats._format import FloatFormat

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Float16(FloatFormat):
    """16-bit floats: 1 sign, 5 exponent, 10 fraction bits; 16 bits per weight, at most 65504.

    For weights that are to be kept as they are, with 11 bits of precision; weights beyond 65504 are refused.

    Example:
        >>> import torch
        >>> Float16().unpack(Float16().quantize(torch.tensor([[1 / 3]]))).item()
        0.333251953125
    """

    name: ClassVar[str] = "F16"
    ggml_type: ClassVar[int] = 1
    type_size: ClassVar[int] = 2

    @staticmethod
    def dtype() -> torch.dtype:
        """Return ``torch.float16``."""
        import torch

        return torch.float16
