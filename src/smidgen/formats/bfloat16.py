"""The format BF16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats._format import FloatFormat

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BFloat16(FloatFormat):
    """Brain floats: 1 sign, 8 exponent, 7 fraction bits; 16 bits per weight, the range of float32.

    For weights of models trained in this type, which it holds without loss.

    Example:
        >>> import torch
        >>> BFloat16().unpack(BFloat16().quantize(torch.tensor([[1 / 3]]))).item()
        0.333984375
    """

    name: ClassVar[str] = "BF16"
    ggml_type: ClassVar[int] = 30
    type_size: ClassVar[int] = 2

    @staticmethod
    def dtype() -> torch.dtype:
        """Return ``torch.bfloat16``."""
        import torch

        return torch.bfloat16
