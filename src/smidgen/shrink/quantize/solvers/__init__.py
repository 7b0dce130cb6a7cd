"""How the stored values of one matrix are chosen, a file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from smidgen import registry

if TYPE_CHECKING:
    import torch

    from smidgen.formats import BlockFormat, NumberFormat


ROWS_AT_A_TIME = 8192
"""Rows of one matrix that are made floats and solved together: they do not depend on one another."""


class Solver:
    """Chooses a matrix's stored values so that its outputs change least.

    Attributes:
        reads_pairs: Whether it looks at how inputs go together; else the mean square of each is all it is given.
        folds: Whether it scales channels against the norm before (`channel_scales`).
    """

    reads_pairs: ClassVar[bool] = True
    folds: ClassVar[bool] = False

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: BlockFormat) -> torch.Tensor:
        """Quantise one matrix.

        Args:
            weight: ``[rows, columns]``, float32 or a type that is made float32 part by part.
            hessian: XᵀX/n of the inputs, ``[columns, columns]`` float32, or for one that reads no pairs its diagonal
                alone, ``[columns]``; None where nothing is known of them.
            number_format: The block format to store it in.

        Returns:
            The packed bytes, uint8 ``[rows, bytes per row]``.
        """
        raise TypeError(f"{type(self).__name__} solves nothing")

    def store(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: NumberFormat) -> torch.Tensor:
        """Quantise one matrix in any format: by `solve` where it can hold that format, else rounded by importance.

        Args:
            weight: As for `solve`.
            hessian: As for `solve`.
            number_format: The format to store it in.

        Returns:
            The packed bytes, uint8 ``[rows, bytes per row]``.
        """
        from smidgen import formats

        if isinstance(number_format, formats.BlockFormat):
            return self.solve(weight, hessian, number_format)
        return number_format.quantize(weight.float(), importance_of(hessian))

    def channel_scales(
        self, weight: torch.Tensor, hessian: torch.Tensor, number_format: BlockFormat
    ) -> torch.Tensor | None:
        """Return what to multiply the columns by before they are solved, ``[columns]``, all positive.

        What the matrices read is divided by the same. None leaves them.

        Args:
            weight: All matrices that read one norm, ``[rows, columns]``.
            hessian: XᵀX/n of what they read.
            number_format: What they are stored in.
        """
        return None


def parts_of(weight: torch.Tensor, number_format: NumberFormat) -> Sequence[torch.Tensor]:
    """Divide a matrix into rows that are solved together; rows that share their scales stay together."""
    import torch

    together = getattr(number_format, "rows_share", False)
    return [weight] if together else torch.split(weight, ROWS_AT_A_TIME)


def importance_of(hessian: torch.Tensor | None) -> torch.Tensor | None:
    """Return the mean square of every input, ``[columns]``, of a Hessian or of its diagonal alone."""
    return hessian if hessian is None or hessian.dim() == 1 else hessian.diagonal()


def find(name: str, **fields: float) -> Solver:
    """Return a solver by name, with its fields set."""
    solver: Solver = registry.find(__name__, name)(**fields)
    return solver
