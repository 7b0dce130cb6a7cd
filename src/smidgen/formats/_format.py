"""What every number format offers: true sizes, packing of rows of weights, and unpacking."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import DamagedFile, InvalidInput, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from smidgen.compiled import Array


@dataclass(frozen=True)
class NumberFormat(ABC):
    """A way of storing weights.

    Attributes:
        ggml_type: The value of ``gguf.GGMLQuantizationType``; None where GGUF has no place for the format.
    """

    ggml_type: ClassVar[int | None] = None

    @property
    def name(self) -> str:
        """The name GGUF uses, such as ``Q4_K``; elsewhere the file's name and what differs from the defaults."""
        given = [
            f"{field.name}={str(getattr(self, field.name)).lower()}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        own = type(self).__module__.rpartition(".")[2]
        return f"{own}:{','.join(given)}" if given else own

    @property
    @abstractmethod
    def block_size(self) -> int:
        """Weights per block; 1 where every weight stands alone."""

    @property
    @abstractmethod
    def type_size(self) -> int:
        """Bytes per block."""

    @property
    def input_block(self) -> int | None:
        """How many inputs llama.cpp rounds to 8 bits by one scale when it multiplies by a matrix in this format.

        On processors these are as many as a block has weights; None where inputs are not rounded.
        """
        return self.block_size if self.ggml_type is not None and self.block_size > 1 else None

    def require_ggml_type(self) -> int:
        """Return the value of ``gguf.GGMLQuantizationType``.

        Raises:
            Unsupported: GGUF has no place for this format.
        """
        if self.ggml_type is None:
            raise Unsupported(
                f"GGUF has no place for the number format {self.name}.",
                remedy="Write a folder, which smidgen itself runs, or take a format of GGUF such as Q4_K or IQ4_NL.",
            )
        return self.ggml_type

    def for_columns(self, columns: int) -> NumberFormat:
        """Return the format as it is for rows of so many weights, where a block may be a whole row."""
        return self

    @property
    def bits_per_weight(self) -> float:
        """Bits that one weight costs, its share of the scales included."""
        return 8 * self.type_size / self.block_size

    def fits(self, columns: int) -> bool:
        """Say whether rows of this many weights can be stored."""
        return columns > 0 and columns % self.block_size == 0

    def bytes_for(self, shape: tuple[int, ...]) -> int:
        """Count the bytes of a tensor whose rows run along its last dimension.

        Raises:
            Unsupported: The last dimension is not a multiple of the block size.
        """
        if not shape or not self.fits(shape[-1]):
            raise Unsupported(
                f"{self.name} stores rows in blocks of {self.block_size} weights; a tensor of shape "
                f"{tuple(shape)} does not divide into them.",
                remedy="Choose a format with smaller blocks (32 for Q4_0 or IQ4_NL, 1 for F16), or another width.",
            )
        return math.prod(shape) // self.block_size * self.type_size

    @abstractmethod
    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Pack weights [rows, columns] to bytes [rows, bytes per row], each to its nearest representable value.

        Args:
            weights: Any float type.
            importance: How much the squared error of a weight counts, [columns] or [rows, columns], non-negative.

        Raises:
            InvalidInput: A weight is not finite or out of range, or the importance has the wrong shape or sign.
            Unsupported: The row length does not divide into blocks.
        """

    @abstractmethod
    def unpack(self, packed: Tensor) -> Tensor:
        """Turn bytes [rows, bytes per row] into float32 weights [rows, columns].

        Raises:
            DamagedFile: The row is not a whole number of blocks.
        """

    @property
    def stands_alone(self) -> bool:
        """Whether some rows of a matrix can be read without the others."""
        return True

    def for_matrix(self, packed: Tensor) -> NumberFormat:
        """Return the format as it reads any rows of one matrix, given all of its bytes [rows, bytes per row]."""
        return self

    def cut(self, packed: Tensor, depth: int) -> tuple[NumberFormat, Tensor]:
        """Return bytes [rows, fewer bytes] that hold what reading at fewer bits sees, and their format.

        Args:
            packed: uint8 [rows, bytes per row].
            depth: Bits of a code that are kept.

        Raises:
            Unsupported: The format does not put the weightiest bits first, or has not so many.
        """
        raise Unsupported(
            f"{self.name} is read whole or not at all.",
            remedy="Formats that serve several depths are hierarchical and tiers.",
        )

    def loop(self) -> Callable[[Array, Array], None] | None:
        """Return the compiled loop that reads bytes [rows, bytes per row] into float32 [rows, columns].

        None where unpacking is a matter of tensor operations.
        """
        return None

    def _require_packed(self, packed: Tensor) -> None:
        import torch

        if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] % self.type_size:
            raise DamagedFile(
                f"{self.name} is read from bytes [rows, n * {self.type_size}], "
                f"not from {packed.dtype} {tuple(packed.shape)}."
            )


@dataclass(frozen=True)
class FloatFormat(NumberFormat):
    """A format that stores every weight by itself, rounded to the nearest value of a float type."""

    block_size: ClassVar[int] = 1

    @staticmethod
    @abstractmethod
    def dtype() -> torch.dtype:
        """Return the torch type of the stored values."""

    def quantize(self, weights: Tensor, importance: Tensor | None = None) -> Tensor:
        """Round every weight to the stored type; importance makes no difference here."""
        import torch

        self.bytes_for(tuple(weights.shape))
        require_finite(weights)
        stored = weights.to(self.dtype())
        if not bool(torch.isfinite(stored.float().sum())):
            require_finite(stored, f"beyond the range of {self.name} ({torch.finfo(self.dtype()).max:.6g})")
        return stored.contiguous().view(torch.uint8)

    def unpack(self, packed: Tensor) -> Tensor:
        """Widen the stored values to float32, exactly."""
        self._require_packed(packed)
        return packed.contiguous().view(self.dtype()).float()


def require_finite(weights: Tensor, fault: str = "not a finite number") -> None:
    """Refuse NaN and infinity, naming the first row that holds one.

    Raises:
        InvalidInput: Some weight is not finite.
    """
    import torch

    if bool(torch.isfinite(weights.sum())):
        return  # one NaN or infinity anywhere would have reached the sum
    finite = torch.isfinite(weights)
    if bool(finite.all()):
        return
    place = (~finite).nonzero()[0].tolist()
    raise InvalidInput(
        f"The weight in row {place[0]}, column {place[-1]} is {fault}.",
        remedy="Check the source model, or the step that made these weights.",
    )
