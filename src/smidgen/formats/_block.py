"""Block formats: a short code per weight, and scales that the weights of a block share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.formats._format import NumberFormat, require_finite

if TYPE_CHECKING:
    from torch import Tensor


# Weights fitted at once: their buffers stay in the cache, and torch splits no single operation of this size among
# its threads, whose meeting points would cost more than they bring.
CACHED = (1 << 15) - 1


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
    """A format of codes and scales; a weight decodes to ``scale * level - minimum``.

    Attributes:
        group_size: Weights that share one effective scale.
        levels: What the codes 0, 1, 2 … stand for, ascending.
    """

    group_size: ClassVar[int]
    levels: ClassVar[tuple[float, ...]]

    @abstractmethod
    def _fit(self, weights: Tensor, importance: Tensor) -> dict[str, Tensor]:
        """Choose what to store for weights and importance, both [group_size, rows * groups]."""

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
        """Fit [rows, n * block_size] in slices of rows, several at a time on a processor."""
        import torch

        weights = weights.detach()
        on_processor = weights.device.type == "cpu"
        step = max(1, (CACHED if on_processor else 1 << 24) // weights.shape[1])
        starts = range(0, len(weights), step)

        def fitted(start: int) -> Scales:
            part = weights[start : start + step]
            if importance is None or importance.ndim == 1:
                return self._fit_slice(part, importance)
            return self._fit_slice(part, importance[start : start + step])

        workers = min(torch.get_num_threads(), len(starts)) if on_processor else 1
        if workers == 1:
            return [fitted(start) for start in starts]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(fitted, starts))

    def _fit_slice(self, weights: Tensor, importance: Tensor | None) -> Scales:
        """Fit some rows, turned so that each group is a column, as the searches want them."""
        import torch

        weights = weights.float()
        if importance is None:
            counts = torch.ones_like(weights)
        else:
            blocks = importance.detach().float().reshape(-1, self.block_size)
            counts = _normalised(blocks).reshape(importance.shape).expand_as(weights)
        columns = weights.reshape(-1, self.group_size).t().contiguous()
        return self._effective(self._fit(columns, counts.reshape(-1, self.group_size).t().contiguous()))

    def encode(self, values: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return the code (uint8 index into `levels`) whose decoded value lies nearest to each value.

        Args:
            values: [rows, n].
            scale: Broadcastable to values; 0 is safe.
            minimum: Broadcastable to values.
        """
        import torch

        inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
        return self._nearest((values.float() + minimum) * inverse)

    def _nearest(self, scaled: Tensor) -> Tensor:
        import torch

        low = self.levels[0]
        return scaled.round_().clamp_(low, self.levels[-1]).sub_(low).to(torch.uint8)

    def decode(self, codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
        """Return the float32 values that codes [rows, n] stand for, bit for bit as llama.cpp reads them."""
        return self._level(codes).mul_(scale).sub_(minimum)

    def _level(self, codes: Tensor) -> Tensor:
        return codes.float().add_(self.levels[0])

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
