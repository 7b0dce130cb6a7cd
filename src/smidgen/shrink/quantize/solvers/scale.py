"""Input channels scaled against the layer before, so that those which matter most are rounded finest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.quantize.solvers.nearest import Nearest

if TYPE_CHECKING:
    import torch

    from smidgen.formats import BlockFormat


@dataclass(frozen=True)
class Scale(Nearest):
    """AWQ (Lin 2023, arXiv 2306.00978): column j is multiplied by s_j and the norm before divided by it.

    s_j = (size of x_j)^a, scaled to a geometric middle of 1; the share a is searched from 0 to 1 on the layer's output
    error, tr(ΔW·H·ΔWᵀ) with ΔW of the weights as they are read back. a = 0 is plain rounding, so nothing gets worse
    on the calibration text. The size is the root mean square, where the paper takes the mean absolute value. Matrices
    that read no norm (after attention, inside the MLP) are rounded as `nearest` does. For few bits and inputs of very
    unequal size; `gptq` is better where both may be used. Norms change, so the model must be in memory.

    Attributes:
        steps: How many shares are tried besides 0.

    Example:
        >>> import torch
        >>> from smidgen import formats
        >>> generator = torch.Generator().manual_seed(0)
        >>> hessian = torch.diag(torch.where(torch.arange(64) % 16 == 0, 400.0, 1.0))
        >>> weight, q2 = torch.randn(64, 64, generator=generator), formats.find("integer:bits=2,group=64")
        >>> scales = Scale().channel_scales(weight, hessian, q2)
        >>> scales.shape, bool(scales[0] > scales[1])
        (torch.Size([64]), True)
    """

    reads_pairs: ClassVar[bool] = True
    folds: ClassVar[bool] = True
    steps: int = 10

    def channel_scales(
        self, weight: torch.Tensor, hessian: torch.Tensor, number_format: BlockFormat
    ) -> torch.Tensor | None:
        """Search what to multiply the columns by; see `Solver.channel_scales`."""
        import torch

        weight = weight.float()
        sizes = hessian.diagonal().clamp_min(0).sqrt()
        sizes = torch.where(sizes > 0, sizes, sizes.mean()).clamp_min(torch.finfo(torch.float32).tiny ** 0.5)
        best: torch.Tensor | None = None
        least = self._error(weight, torch.ones_like(sizes), hessian, number_format)
        for step in range(1, self.steps + 1):
            scales = sizes ** (step / self.steps)
            scales = (scales / (scales.max() * scales.min()).sqrt()).clamp(1 / LARGEST, LARGEST)
            error = self._error(weight, scales, hessian, number_format)
            if error < least:
                best, least = scales, error
        return best

    def _error(
        self, weight: torch.Tensor, scales: torch.Tensor, hessian: torch.Tensor, number_format: BlockFormat
    ) -> float:
        packed = self.solve(weight * scales, (hessian.diagonal() / scales.square()), number_format)
        change = number_format.unpack(packed) / scales - weight
        return float(((change @ hessian) * change).sum())


LARGEST = 64.0
"""Most that a channel is scaled by: beyond it the norm's own type loses what is gained."""
