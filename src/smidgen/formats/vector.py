"""The format vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput
from smidgen.formats import _dense, _multiply
from smidgen.formats._block import require_importance
from smidgen.formats._codebook import VectorFormat
from smidgen.formats._format import NumberFormat, require_finite
from smidgen.formats._group import require_one_of

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.compiled import Array

LATTICE, LEARNED = "e8", "learned"
ROUNDS, SAMPLE = 10, 1 << 14
"""Turns of k-means, and the vectors of a matrix that they look at."""


@dataclass(frozen=True)
class Vector(VectorFormat):
    """The nearest of a codebook's vectors for several weights at once, under a float16 scale per group.

    ``e8``: 8 weights are a point of the lattice E8, shifted by ¼, of 2**16 that are short: 256 kinds of coordinate
    sizes, signs that make the sum even, and the side of the shift. Nothing is stored of the codebook; 2 + 16/g bits per
    weight. Spheres around the points fill 8 dimensions more densely than cubes do. Source: QuIP#, arXiv 2402.04396.

    ``learned``: ``size`` weights are one of 2**bits vectors that k-means finds for the matrix, each weight counting by
    its importance; the codebook's bytes lie spread over the matrix's rows. bits/size + 16/g + 16 * size * 2**bits /
    weights of the matrix. Source: AQLM, arXiv 2401.06118, here with one codebook.

    Attributes:
        codebook: ``e8`` or ``learned``.
        size: Weights per vector of a learned codebook, 2, 4 or 8.
        bits: Bits of a code of a learned codebook, 2 to 8.
        group: Weights per scale, a multiple of 64; rows must divide into groups.

    Example:
        >>> import torch
        >>> weights = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
        >>> packed = Vector().quantize(weights)
        >>> packed.shape[1] * 8 / 64, round(float((Vector().unpack(packed) - weights).square().mean()), 2)
        (2.25, 0.08)
    """

    codebook: str = LATTICE
    size: int = 4
    bits: int = 8
    group: int = 64

    def __post_init__(self) -> None:
        require_one_of("codebook", self.codebook, (LATTICE, LEARNED))
        require_one_of("count of weights of a vector", self.size, (2, 4, 8))
        require_one_of("count of bits", self.bits, tuple(range(2, 9)))
        if self.group < 64 or self.group % 64:
            raise InvalidInput(f"A group of {self.group} weights cannot be stored.", remedy="Give a multiple of 64.")

    @property
    def block_size(self) -> int:
        """Weights per group."""
        return self.group

    @property
    def type_size(self) -> int:
        """Bytes per group."""
        return 2 + (self.group // 4 if self.codebook == LATTICE else self.group // self.size * self.bits // 8)

    @property
    def stands_alone(self) -> bool:
        """Whether some rows of a matrix can be read without the others."""
        return self.codebook == LATTICE

    def _share(self, rows: int) -> int:
        """Return how many bytes of the codebook every row carries."""
        return 0 if self.codebook == LATTICE else -(-(self.size * 2 << self.bits) // max(1, rows))

    def bytes_for(self, shape: tuple[int, ...]) -> int:
        """Count the bytes of a tensor, a learned codebook included."""
        import math

        rows = math.prod(shape[:-1])
        return super().bytes_for(shape) + rows * self._share(rows)

    @property
    def lanes(self) -> int:
        """Weights that one code stands for."""
        from smidgen.formats import _vectors

        return _vectors.LANES if self.codebook == LATTICE else self.size

    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Scale every group and pack the nearest vectors."""
        import torch

        self.bytes_for(tuple(weights.shape))
        require_importance(importance, weights)
        whole = weights.detach().cpu().float()
        counts = torch.ones(1, 1) if importance is None else importance.detach().cpu().float()
        counts = (counts / counts.max().clamp(min=1e-30)).clamp(min=1e-6).expand_as(whole)
        grouped, worth = whole.reshape(-1, self.group), counts.reshape(-1, self.group)
        book, scale = self.learn(whole, counts), self.fit(grouped, worth)
        codes, _ = self._encoded(grouped, worth, scale, book)
        return self.join(codes.reshape(len(whole), -1), scale.reshape(len(whole), -1), book)

    def learn(self, weights: Tensor, importance: Tensor) -> Tensor:
        """Run k-means on a sample of vectors, float32 [entries, size] of float16 values; empty for a lattice."""
        import torch

        require_finite(weights)
        if self.codebook == LATTICE:
            return torch.empty(0, self.lanes)
        grouped = weights.reshape(-1, self.group)
        counts = importance.expand_as(weights).reshape(-1, self.group)
        unit = self.fit(grouped, counts)[:, None]
        # An error counts as much as the weight's own importance and the square of its scale.
        worth = (counts * unit.square()).clamp(min=1e-30)
        vectors, worth = _scaled(grouped, unit).reshape(-1, self.size), (worth / worth.mean()).reshape(-1, self.size)
        return _learned(vectors, worth, 1 << self.bits)

    def fit(self, weights: Tensor, importance: Tensor) -> Tensor:
        """Return the scales; see `VectorFormat.fit`."""
        import numpy as np
        import torch

        from smidgen.compiled import in_slices
        from smidgen.formats import _vectors

        counts = importance.expand_as(weights)
        if self.codebook == LEARNED:
            spread = ((weights.square() * counts).sum(-1) / counts.sum(-1)).sqrt()
            return spread.clamp(max=65504).half().float()
        values, counted = (part.reshape(len(weights), -1, self.lanes).numpy() for part in (weights, counts))
        found = np.empty(len(values), np.float32)
        tables = _vectors.by_lane(), _vectors.odd()

        def work(part: slice) -> None:
            # One layout for whatever is given: another would be compiled anew.
            given = np.ascontiguousarray(values[part]), np.ascontiguousarray(counted[part])
            _vectors.fitted_scales(*given, *tables, _vectors.SHARES, found[part])

        in_slices(work, len(values), 256, torch.get_num_threads())
        return torch.from_numpy(found).clamp(-65504, 65504).half().float()

    def encode(self, weights: Tensor, scale: Tensor, turn: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
        """Choose codes; see `VectorFormat.encode`. Of a codebook exactly, of the lattice by what each weight counts."""
        import torch

        turn = turn / turn.abs().max()  # tiny inputs make it large
        if self.codebook == LATTICE:
            codes, values = self._encoded(weights, (turn @ turn.T).diagonal().expand_as(weights), scale, codebook)
            return codes[:, 0], values
        turned = (_scaled(weights, scale[:, None]) @ turn).contiguous()
        codes = _nearest(turned, torch.ones_like(turned), codebook @ turn)
        return codes, codebook[codes.long()] * scale[:, None]

    def _encoded(self, weights: Tensor, counts: Tensor, scale: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes [groups, vectors] of groups [groups, weights] and what they stand for [groups, weights]."""
        import numpy as np
        import torch

        from smidgen.compiled import in_slices
        from smidgen.formats import _vectors

        groups = len(weights)
        if self.codebook == LEARNED:
            vectors, worth = (
                part.reshape(-1, self.size) for part in (_scaled(weights, scale[:, None]), counts.contiguous())
            )
            codes = _nearest(vectors, worth, codebook).reshape(groups, -1)
            return codes, codebook[codes.long()].flatten(1) * scale[:, None]
        values, counted = (part.reshape(groups, -1, self.lanes).numpy() for part in (weights, counts))
        found, points = np.empty(values.shape[:2], np.uint16), np.empty(values.shape, np.float32)
        tables, units = (_vectors.by_lane(), _vectors.odd()), scale.numpy()

        def work(part: slice) -> None:
            given = np.ascontiguousarray(values[part]), np.ascontiguousarray(counted[part])
            _vectors.encoded_points(*given, *tables, units[part], found[part], points[part])

        in_slices(work, groups, 256, torch.get_num_threads())
        return torch.from_numpy(found.astype(np.int32)), torch.from_numpy(points).flatten(1) * scale[:, None]

    def join(self, codes: Tensor, scale: Tensor, codebook: Tensor) -> Tensor:
        """Put every group's scale before its codes, and a learned codebook's share before the row."""
        import numpy as np
        import torch

        rows, groups = scale.shape
        halves = scale.half()[..., None].view(torch.uint8)
        codes = codes.reshape(rows, groups, -1)
        if self.codebook == LATTICE:
            written = torch.from_numpy(codes.numpy().astype(np.uint16).view(np.uint8))
            return torch.cat([halves, written], -1).flatten(1)
        share = self._share(rows)
        book = codebook.half().reshape(-1).view(torch.uint8)
        carried = torch.nn.functional.pad(book, (0, rows * share - len(book))).reshape(rows, share)
        return torch.cat([carried, torch.cat([halves, _dense.join(codes, self.bits)], -1).flatten(1)], 1)

    def for_matrix(self, packed: Tensor) -> NumberFormat:
        """Return the format as it reads rows of one matrix, whose codebook it then knows."""
        import numpy as np

        if self.codebook == LATTICE:
            return self
        entries = 1 << self.bits
        carried = packed[:, : self._share(len(packed))].cpu().contiguous().numpy().reshape(-1)
        book = carried[: entries * self.size * 2].view(np.float16).astype(np.float32).reshape(entries, self.size)
        return _Bound(self.codebook, self.size, self.bits, self.group, book, self._share(len(packed)))

    def unpack(self, packed: Tensor) -> Tensor:
        """Turn bytes [rows, bytes per row] into float32 weights [rows, columns]; of a learned codebook all rows."""
        import torch

        share = self._share(len(packed))
        if packed.dtype != torch.uint8 or packed.ndim != 2 or (packed.shape[1] - share) % self.type_size:
            raise DamagedFile(
                f"{self.name} is read from bytes [rows, {share} + n * {self.type_size}], "
                f"not from {packed.dtype} {tuple(packed.shape)}."
            )
        loop = self.for_matrix(packed).loop()
        assert loop is not None
        return _multiply.unpack(loop, packed, (packed.shape[1] - share) // self.type_size * self.group)

    def loop(self) -> Callable[[Array, Array], None] | None:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        from smidgen.formats import _loops, _vectors

        if self.codebook != LATTICE:
            return None
        tables, scales, group = (_vectors.magnitudes(), _vectors.odd()), _loops.halves(), self.group
        return lambda packed, out: _vectors.points(packed, group, scales, *tables, out)


@dataclass(frozen=True)
class _Bound(Vector):
    """A learned codebook's format that knows the codebook of one matrix.

    Attributes:
        book: float32 [entries, size].
        share: Bytes of it that every row carries.
    """

    book: Any = field(default=None, compare=False)
    share: int = 0

    @property
    def name(self) -> str:
        """The name of the format without its codebook."""
        return Vector(self.codebook, self.size, self.bits, self.group).name

    def for_matrix(self, packed: Tensor) -> NumberFormat:
        """Return the format itself."""
        return self

    def _share(self, rows: int) -> int:
        return self.share

    def loop(self) -> Callable[[Array, Array], None]:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns]."""
        import numpy as np

        from smidgen.formats import _loops, _vectors

        layout, scales, book = np.array([self.group, self.bits, self.share]), _loops.halves(), self.book
        return lambda packed, out: _vectors.entries(packed, layout, scales, book, out)


def _scaled(weights: Tensor, scale: Tensor) -> Tensor:
    """Divide groups by their scales; weights of a group that has none become 0."""
    import torch

    return torch.where(scale > 0, weights / scale.clamp(min=1e-30), 0.0).clamp(-1e4, 1e4)


def _nearest(vectors: Tensor, worth: Tensor, book: Tensor) -> Tensor:
    """Return the number of each vector's nearest entry, uint8 [vectors]."""
    import torch

    from smidgen.compiled import in_slices
    from smidgen.formats import _vectors

    codes = torch.empty(len(vectors), dtype=torch.uint8)
    arrays, known = [part.numpy() for part in (vectors, worth)], book.contiguous().numpy()
    in_slices(
        lambda part: _vectors.nearest_entries(*(each[part] for each in arrays), known, codes.numpy()[part]),
        len(vectors),
        1 << 12,
        torch.get_num_threads(),
    )
    return codes


def _learned(vectors: Tensor, worth: Tensor, entries: int) -> Tensor:
    """Return the codebook [entries, size] in float16 values that k-means finds on a sample of vectors [n, size].

    Begun at vectors of the sample, equal shares of them by length apart; an entry that nobody is nearest to goes where
    the vector lies that its entry serves worst.
    """
    import torch

    step = max(1, len(vectors) // SAMPLE)
    seen, counts = vectors[::step].contiguous(), worth[::step].contiguous()
    order = seen.square().sum(1).argsort(stable=True)
    book = seen[order[(torch.arange(entries) + 0.5).mul(len(seen) / entries).long().clamp(max=len(seen) - 1)]].clone()
    for _ in range(ROUNDS):
        codes = _nearest(seen, counts, book).long()
        mass = torch.zeros(entries, vectors.shape[1]).index_add_(0, codes, counts)
        value = torch.zeros(entries, vectors.shape[1]).index_add_(0, codes, counts * seen)
        harm = ((seen - book[codes]).square() * counts).sum(1)
        empty = (mass.sum(1) == 0).nonzero()[:, 0]
        book = torch.where(mass > 0, value / mass.clamp(min=1e-30), book)
        if len(empty):
            worst = harm.argsort(descending=True, stable=True)[: len(empty)]
            book[empty[: len(worst)]] = seen[worst]
    return book.half().float()
