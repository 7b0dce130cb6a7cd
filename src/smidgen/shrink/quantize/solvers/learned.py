"""Rounding learned by signed gradient descent on what the layer gives out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput
from smidgen.shrink.hessian import DAMPING
from smidgen.shrink.quantize.solvers import Solver, importance_of, parts_of

if TYPE_CHECKING:
    import torch

    from smidgen.formats import BlockFormat

ROUNDS = 4
"""How often the scales are fitted anew to the weights as they have been moved."""


@dataclass(frozen=True)
class Learned(Solver):
    """After AutoRound (Cheng 2023, arXiv 2309.05516): every weight moves by up to half a step before it is rounded.

    Ŵ = Q(W + V·d), |V| ≤ ½, d the format's step; V ← V − η·sign(∂L/∂V), η falling from 1/(steps per round) to 0, the
    gradient passed straight through the rounding. L = tr(ΔW·H·ΔWᵀ) is the layer's output error on the calibration text,
    known from H alone (damped as in `gptq`), where the paper runs each block's text again; the scales are fitted anew,
    `ROUNDS` times, to the moved weights, where the paper moves them too. A row keeps the best it has seen, so by L
    none is worse than rounded. Slower than `gptq` by the count of steps, with no order of columns.

    Attributes:
        steps: Steps of descent in all.

    Example:
        >>> import torch
        >>> from smidgen import formats
        >>> from smidgen.shrink.quantize.solvers.nearest import Nearest
        >>> generator = torch.Generator().manual_seed(0)
        >>> inputs = torch.randn(256, 8, generator=generator) @ torch.randn(8, 64, generator=generator)
        >>> weight, hessian = torch.randn(16, 64, generator=generator), inputs.T @ inputs / 256
        >>> q4 = formats.find("q4_0")
        >>> def damage(solver):
        ...     change = q4.unpack(solver.solve(weight, hessian, q4)) - weight
        ...     return float(((change @ hessian) * change).sum())
        >>> damage(Learned()) < 0.7 * damage(Nearest())
        True
    """

    steps: int = 120

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: BlockFormat) -> torch.Tensor:
        """Quantise one matrix; see `Solver.solve`."""
        import torch

        if hessian is None:
            raise InvalidInput(
                "The solver 'learned' needs calibration statistics for this matrix.", remedy="Use 'nearest'."
            )
        if not bool(hessian.isfinite().all()):
            raise InvalidInput("The calibration statistics of a matrix are not finite.", remedy="Use other text.")
        number_format = number_format.for_columns(weight.shape[1])
        damped = hessian + torch.eye(len(hessian)) * (DAMPING * hessian.diagonal().mean())
        together = getattr(number_format, "rows_share", False)
        parts = parts_of(weight, number_format)
        return torch.cat([self._descend(part.float(), damped, number_format, together) for part in parts])

    def _descend(
        self, weight: torch.Tensor, hessian: torch.Tensor, number_format: BlockFormat, together: bool
    ) -> torch.Tensor:
        """Return the bytes of some rows."""
        import torch

        moved, best = torch.zeros_like(weight), torch.empty(0)
        least = torch.full((len(weight),), torch.inf)
        per_round = max(1, self.steps // ROUNDS)
        step = torch.zeros(())
        for _ in range(ROUNDS):
            packed = number_format.quantize(weight + moved * step, importance_of(hessian))
            grid = _Grid(number_format, packed)
            step = grid.step
            for number in range(per_round):
                codes, values = grid.rounded(weight + moved * step)
                change = values - weight
                slope = change @ hessian
                loss = (slope * change).sum(1)
                loss = loss.sum().expand(len(loss)) if together else loss
                better = loss < least
                if bool(better.any()):
                    fresh = grid.pack(codes)
                    best = fresh if not len(best) else torch.where(better[:, None], fresh, best)
                    least = torch.where(better, loss, least)
                rate = (1 - number / per_round) / per_round
                moved = (moved - rate * slope.sign()).clamp_(-0.5, 0.5)
        return best


class _Grid:
    """Rounds weights with scales that were fitted once."""

    def __init__(self, number_format: BlockFormat, packed: torch.Tensor) -> None:
        self.format = number_format
        _, self.scales = number_format.unpack_codes(packed)
        self.groups = (len(packed), -1, 1)
        levels = sorted(number_format.levels)
        gap = (levels[-1] - levels[0]) / max(1, len(levels) - 1)
        width = self.scales.scale.abs().reshape(self.groups) * gap
        self.step = width.expand(-1, -1, number_format.group_size).flatten(1)

    def rounded(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes and values, ``[rows, columns]``."""
        grouped = weight.reshape(len(weight), -1, self.format.group_size)
        scale, minimum = (part.reshape(self.groups) for part in (self.scales.scale, self.scales.minimum))
        codes = self.format.encode(grouped, scale, minimum)
        return codes.flatten(1), self.format.decode(codes, scale, minimum).flatten(1)

    def pack(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the bytes of codes, ``[rows, bytes per row]``."""
        return self.format.pack(codes.reshape(len(codes), -1, self.format.block_size), self.scales)
