"""The format kmeans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import DamagedFile
from smidgen.formats import _dense, _multiply
from smidgen.formats._block import require_importance
from smidgen.formats._codebook import CodebookFormat, nearest
from smidgen.formats._format import require_finite
from smidgen.formats._group import require_one_of

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array

ROUNDS = 12
ROWS = 512


@dataclass(frozen=True)
class Kmeans(CodebookFormat):
    """A codebook of 2**b float16 values for every row, from k-means; b + 16 * 2**b / columns bits per weight.

    weight = codebook[code]. The values are the means that make Σ h (w - value)² least (Lloyd's turns, started at equal
    shares of the sorted weights), h the weight's importance. Source: SqueezeLLM, arXiv 2306.07629. Long rows share the
    codebook's cost among more weights.

    Attributes:
        bits: Bits of a code, 1 to 6.

    Example:
        >>> import torch
        >>> weights = torch.tensor([[-0.5, 0.25, 3.0, 7.0] * 2])
        >>> torch.equal(Kmeans(bits=2).unpack(Kmeans(bits=2).quantize(weights)), weights)
        True
    """

    bits: int = 4

    def __post_init__(self) -> None:
        require_one_of("count of bits", self.bits, tuple(range(1, 7)))

    @property
    def block_size(self) -> int:
        """Weights whose codes fill whole bytes."""
        return 8

    @property
    def type_size(self) -> int:
        """Bytes of eight codes."""
        return self.bits

    @property
    def codebook_bytes(self) -> int:
        """Bytes that a row's codebook takes."""
        return 2 << self.bits

    def bytes_for(self, shape: tuple[int, ...]) -> int:
        """Count the bytes of a tensor, codebooks included."""
        import math

        return super().bytes_for(shape) + math.prod(shape[:-1]) * self.codebook_bytes

    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Find every row's codebook and pack it before the row's codes."""
        import torch

        codebook = self.learn(weights, importance)
        parts = zip(torch.split(weights.detach().cpu().float(), ROWS), torch.split(codebook, ROWS), strict=True)
        return torch.cat([self.join(nearest(part, values).to(torch.uint8), values) for part, values in parts])

    def learn(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Return every row's codebook in float32, as float16 holds it; see `CodebookFormat.learn`."""
        import torch

        self.bytes_for(tuple(weights.shape))
        require_finite(weights)
        require_importance(importance, weights)
        whole = weights.detach().cpu().float()
        counts = torch.ones_like(whole[:1]) if importance is None else importance.detach().cpu().float()
        counts = (counts / counts.max().clamp(min=1e-30)).expand_as(whole)
        parts = zip(torch.split(whole, ROWS), torch.split(counts, ROWS), strict=True)
        return torch.cat([self._learnt(part, count) for part, count in parts])

    def _learnt(self, weights: Tensor, counts: Tensor) -> Tensor:
        import torch

        codebook = self._started(weights)
        for _ in range(ROUNDS):
            codes = nearest(weights, codebook)
            mass = torch.zeros_like(codebook).scatter_add_(1, codes, counts)
            value = torch.zeros_like(codebook).scatter_add_(1, codes, counts * weights)
            codebook = torch.where(mass > 0, value / mass.clamp(min=1e-30), codebook).sort(1).values
        return codebook.clamp(-65504, 65504).half().float()

    def join(self, codes: Tensor, codebook: Tensor) -> Tensor:
        """Put every row's codebook before its codes."""
        import torch

        return torch.cat([codebook.half().view(torch.uint8), _dense.join(codes, self.bits)], 1)

    def _started(self, weights: Tensor) -> Tensor:
        import torch

        size = 1 << self.bits
        ordered, columns = weights.sort(1).values, weights.shape[1]
        unique = torch.nn.functional.pad(ordered.diff(dim=1) != 0, (1, 0), value=True)
        if int(unique.sum(1).max()) <= size:  # few values: each may have its own
            places = torch.where(unique, torch.arange(columns).expand_as(unique), columns - 1).sort(1).values
            places = torch.nn.functional.pad(places, (0, max(0, size - columns)), value=columns - 1)[:, :size]
            return ordered.gather(1, places).sort(1).values
        places = ((torch.arange(size) + 0.5) * columns / size).long().clamp(max=columns - 1)
        spaced = torch.linspace(0, 1, size) * (ordered[:, -1:] - ordered[:, :1]) + ordered[:, :1]
        return ((ordered[:, places] + spaced) / 2).sort(1).values

    def unpack(self, packed: Tensor) -> Tensor:
        """Turn bytes [rows, bytes per row] into float32 weights [rows, columns]."""
        import torch

        codes = packed.shape[-1] - self.codebook_bytes
        if packed.dtype != torch.uint8 or packed.ndim != 2 or codes < 0 or codes % self.bits:
            raise DamagedFile(
                f"{self.name} is read from bytes [rows, {self.codebook_bytes} + n * {self.bits}], "
                f"not from {packed.dtype} {tuple(packed.shape)}."
            )
        return _multiply.unpack(self.loop(), packed, codes // self.bits * 8)

    def loop(self) -> Callable[[Array, Array], None]:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        from smidgen.formats import _loops

        bits, scales = self.bits, _loops.halves()
        return lambda packed, out: _loops.codebooks(packed, bits, scales, out)
