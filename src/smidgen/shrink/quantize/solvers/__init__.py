"""How the stored values of one matrix are chosen, a file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smidgen import registry

if TYPE_CHECKING:
    import torch

    from smidgen.formats import BlockFormat


class Solver:
    """Chooses a matrix's stored values so that its outputs change least."""

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: BlockFormat) -> torch.Tensor:
        """Quantise one matrix.

        Args:
            weight: ``[rows, columns]`` float32.
            hessian: XᵀX/n of the inputs, ``[columns, columns]`` float32; None where nothing is known of them.
            number_format: The block format to store it in.

        Returns:
            The packed bytes, uint8 ``[rows, bytes per row]``.
        """
        raise TypeError(f"{type(self).__name__} solves nothing")


def find(name: str, **fields: float) -> Solver:
    """Return a solver by name, with its fields set."""
    solver: Solver = registry.find(__name__, name)(**fields)
    return solver
