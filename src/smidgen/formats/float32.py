"""The format F32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.formats._format import FloatFormat

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Float32(FloatFormat):
    """32-bit floats: 1 sign, 8 exponent, 23 fraction bits; 32 bits per weight.

    For small tensors whose error is felt everywhere: norms, biases. One third has this nearest value:

    Example:
        >>> import torch
        >>> Float32().unpack(Float32().quantize(torch.tensor([[1 / 3]]))).item()
        0.3333333432674408
    """

    name: ClassVar[str] = "F32"
    ggml_type: ClassVar[int] = 0
    type_size: ClassVar[int] = 4

    @staticmethod
    def dtype() -> torch.dtype:
        """Return ``torch.float32``."""
        import torch

        return torch.float32
