"""Round every weight to the nearest stored value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.quantize.solvers import Solver, importance_of, parts_of

if TYPE_CHECKING:
    import torch

    from smidgen.formats import BlockFormat


@dataclass(frozen=True)
class Nearest(Solver):
    """Rounding, with each block's scale searched to minimise Σ h_j (w_j − ŵ_j)², h = diag(H).

    The fastest, and enough at 8 bits. What llama.cpp's importance matrix does is this.

    Example:
        >>> import torch
        >>> from smidgen import formats
        >>> weight = torch.linspace(-1, 1, 64).reshape(2, 32)
        >>> packed = Nearest().solve(weight, None, formats.find("q8_0"))
        >>> tuple(packed.shape), bool((formats.find("q8_0").unpack(packed) - weight).abs().max() < 0.005)
        ((2, 34), True)
    """

    reads_pairs: ClassVar[bool] = False

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: BlockFormat) -> torch.Tensor:
        """Quantise one matrix; see `Solver.solve`."""
        import torch

        importance, number_format = importance_of(hessian), number_format.for_columns(weight.shape[1])
        parts = parts_of(weight, number_format)
        return torch.cat([number_format.quantize(part.float(), importance) for part in parts])
