"""Block formats: a short code per weight, and scales that the weights of a block share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput
from smidgen.formats._format import NumberFormat, require_finite
from smidgen.formats._grid import Grid, grid_of

if TYPE_CHECKING:
    from torch import Tensor


CACHED = 1 << 16
"""Weights fitted at once by one thread: few enough that all that is worked out for them stays in its cache."""


@dataclass(frozen=True)
class Scales:
    """The scales of one block per row, or of several blocks once stacked.

    Attributes:
        scale: Effective float32 scale, [rows, groups] or [rows, blocks, groups], exactly as the file decodes it.
        minimum: Effective offset that decoding subtracts, same shape; zeros in symmetric formats.
        stored: What the file holds: ``d`` and ``dmin`` as float16 per block, ``scales`` and ``minimums`` as
            integers per group.
    """

    scale: Tensor
    minimum: Tensor
    stored: Mapping[str, Tensor]

    @staticmethod
    def stack(parts: list[Scales]) -> Scales:
        """Join the scales of consecutive blocks into one with a blocks dimension, [rows, blocks, groups]."""
        return _combined("stack", parts, 1)

    @staticmethod
    def concatenate(parts: list[Scales]) -> Scales:
        """Join the scales of consecutive rows."""
        return _combined("cat", parts, 0)

    def reshape(self, *leading: int) -> Scales:
        """Give the rows dimension other leading sizes, as when [rows * blocks] becomes [rows, blocks]."""
        return Scales(
            self.scale.reshape(*leading, self.scale.shape[-1]),
            self.minimum.reshape(*leading, self.minimum.shape[-1]),
            {name: tensor.reshape(*leading, *tensor.shape[1:]) for name, tensor in self.stored.items()},
        )


def _combined(how: str, parts: list[Scales], dim: int) -> Scales:
    import torch

    join = getattr(torch, how)
    return Scales(
        join([part.scale for part in parts], dim),
        join([part.minimum for part in parts], dim),
        {name: join([part.stored[name] for part in parts], dim) for name in parts[0].stored},
    )


@dataclass(frozen=True)
class BlockFormat(NumberFormat):
    """A format of codes and scales; a weight decodes to ``scale * level - minimum``."""

    @property
    @abstractmethod
    def group_size(self) -> int:
        """Weights that share one effective scale."""

    @property
    @abstractmethod
    def levels(self) -> tuple[float, ...]:
        """What the codes 0, 1, 2 … stand for."""

    def for_columns(self, columns: int) -> BlockFormat:
        """Return the format as it is for rows of so many weights, where a block may be a whole row."""
        return self

    @property
    def on_grid(self) -> bool:
        """Whether a weight decodes as said above; other formats have an `encode` and a `decode` of their own."""
        return True

    @property
    def grid(self) -> Grid:
        """The levels, with rounding to them."""
        return grid_of(self.levels)

    @abstractmethod
    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        """Choose what to store for weights [groups, group_size]; importance is [1 or rows, groups per row, size]."""

    @abstractmethod
    def _effective(self, stored: Mapping[str, Tensor]) -> Scales:
        """Decode stored scales with any leading sizes."""

    @abstractmethod
    def _join(self, codes: Tensor, stored: Mapping[str, Tensor]) -> list[Tensor]:
        """Return a block's fields in file order, each uint8 [..., bytes]."""

    @abstractmethod
    def _split(self, packed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return codes [..., block_size] and stored scales of bytes [..., type_size]."""

    def fit(self, weights: Tensor, importance: Tensor | None = None) -> Scales:
        """Search the scales of one block per row that make ``sum(importance * (weight - decoded) ** 2)`` least.

        The sum is judged with the scales as the file rounds them.

        Args:
            weights: [rows, block_size].
            importance: [block_size] or [rows, block_size], non-negative; None counts all weights alike.

        Raises:
            InvalidInput: A weight is not finite, or a shape or sign is wrong.
        """
        if weights.ndim != 2 or weights.shape[1] != self.block_size or not len(weights):
            raise InvalidInput(f"{self.name} fits rows of {self.block_size} weights, not {tuple(weights.shape)}.")
        require_finite(weights)
        require_importance(importance, weights)
        return Scales.concatenate(self._fitted(weights, importance))

    def _fitted(self, weights: Tensor, importance: Tensor | None) -> list[Scales]:
        """Fit [rows, n * block_size] in slices of rows, several at a time."""
        import torch

        from smidgen.compiled import in_slices

        weights = weights.detach().cpu()
        counts = self._counts(weights, importance)

        def fitted(rows: slice) -> Scales:
            part = weights[rows].float().reshape(-1, self.group_size).contiguous()
            return self._effective(self._fit(part, counts if len(counts) == 1 else counts[rows]))

        return in_slices(fitted, len(weights), max(1, CACHED // weights.shape[1]), torch.get_num_threads())

    def _counts(self, weights: Tensor, importance: Tensor | None) -> Tensor:
        """Scale the importance of each block to mean 1, [1 or rows, groups per row, group_size]."""
        import torch

        if importance is None:
            return torch.ones(1, weights.shape[1] // self.group_size, self.group_size)
        blocks = _normalised(importance.detach().cpu().float().reshape(-1, self.block_size))
        return blocks.reshape(1 if importance.ndim == 1 else len(weights), -1, self.group_size)

    def encode(self, values: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return the code (uint8 index into `levels`) whose decoded value lies nearest to each value.

        Args:
            values: [rows, n].
            scale: Broadcastable to values; 0 is safe.
            minimum: Broadcastable to values.
        """
        import torch

        inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
        return self.grid.encode((values.float() + minimum) * inverse)

    def decode(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return the float32 values that codes [rows, n] stand for, bit for bit as llama.cpp reads them."""
        return self.grid.decode(codes).mul_(scale).sub_(minimum)

    def pack(self, codes: Tensor, scales: Scales) -> Tensor:
        """Write codes [rows, blocks, block_size] and stacked scales as bytes [rows, blocks * type_size]."""
        import torch

        return torch.cat(self._join(codes, scales.stored), -1).flatten(1)

    def unpack_codes(self, packed: Tensor) -> tuple[Tensor, Scales]:
        """Read codes [rows, blocks, block_size] and stacked scales out of bytes; the inverse of `pack`.

        Raises:
            DamagedFile: The row is not a whole number of blocks.
        """
        self._require_packed(packed)
        codes, stored = self._split(packed.reshape(len(packed), -1, self.type_size))
        return codes, self._effective(stored)

    def unpack(self, packed: Tensor) -> Tensor:
        """Turn bytes [rows, bytes per row] into float32 weights [rows, columns]."""
        codes, scales = self.unpack_codes(packed)
        grouped = codes.reshape(len(packed), -1, self.group_size)
        groups = (len(packed), -1, 1)
        return self.decode(grouped, scales.scale.reshape(groups), scales.minimum.reshape(groups)).flatten(1)

    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Fit the scales of every block and pack the nearest codes, [rows, columns] to [rows, bytes per row]."""
        import torch

        self.bytes_for(tuple(weights.shape))
        if weights.ndim != 2 or not len(weights):
            raise InvalidInput(f"{self.name} packs a matrix with at least one row, not {tuple(weights.shape)}.")
        require_finite(weights)
        require_importance(importance, weights)
        rows, start, packed = len(weights), 0, []
        for scales in self._fitted(weights, importance):
            taken = min(rows - start, max(1, scales.scale.numel() * self.group_size // weights.shape[1]))
            grouped = weights[start : start + taken].reshape(taken, -1, self.group_size)
            shaped = scales.reshape(taken, -1)
            groups = (taken, grouped.shape[1], 1)
            codes = self.encode(grouped, shaped.scale.reshape(groups), shaped.minimum.reshape(groups))
            packed.append(self.pack(codes.reshape(taken, -1, self.block_size), shaped))
            start += taken
        return torch.cat(packed)


def _normalised(importance: Tensor) -> Tensor:
    """Scale the importance of each block to mean 1, so that no sum overflows; all zeros count as all ones."""
    import torch

    mean = importance.mean(-1, keepdim=True)
    return torch.where(mean > 0, importance / mean, torch.ones_like(importance))


def require_importance(importance: Tensor | None, weights: Tensor) -> None:
    """Refuse importance of another shape than [columns] or [rows, columns], or with negative or NaN entries.

    Raises:
        InvalidInput: The importance cannot be used for these weights.
    """
    if importance is None:
        return
    if tuple(importance.shape) not in {tuple(weights.shape), tuple(weights.shape[1:])}:
        raise InvalidInput(f"The importance has shape {tuple(importance.shape)}, the weights {tuple(weights.shape)}.")
    if not bool(importance.isfinite().all()) or bool((importance < 0).any()):
        raise InvalidInput("The importance of some weight is negative or not a finite number.")
