"""Error compensation: what one column's rounding spoils, the columns after it repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput
from smidgen.shrink.hessian import DAMPING, inverse_factor
from smidgen.shrink.quantize.solvers import Solver, parts_of

if TYPE_CHECKING:
    import torch

    from smidgen.formats import BlockFormat, Grid, NumberFormat, Scales


@dataclass(frozen=True)
class Gptq(Solver):
    """GPTQ (Frantar 2022, arXiv 2210.17323) with importance-weighted scales, on every format.

    U is the upper Cholesky factor of H⁻¹. Column by column, e = (w_i − ŵ_i)/U_ii and w_{>i} −= e·U_{i,>i}. The
    scales of a block are fitted when it is reached, on the already updated weights, each column weighing
    1/U_ii²: what its rounding costs once the later columns have repaired what they can. Where one code stands for
    several weights (``vector``) it is chosen for their columns B at once, e = (w_B − ŵ_B)·U_BB⁻¹ (block LDLQ, QuIP#,
    arXiv 2402.04396); columns of ``tiers`` are solved tier by tier, the coarsest first, so that the finest repair them.

    Attributes:
        damping: Share of H's mean diagonal that is added to it; raised tenfold while H is not positive definite.

    Example:
        >>> import torch
        >>> from smidgen import formats
        >>> torch.manual_seed(0) and None
        >>> inputs = torch.randn(256, 8) @ torch.randn(8, 64) + 0.1 * torch.randn(256, 64)
        >>> weight, hessian, q4 = torch.randn(16, 64), inputs.T @ inputs / 256, formats.find("q4_0")
        >>> def damage(packed):
        ...     change = q4.unpack(packed) - weight
        ...     return float(((change @ hessian) * change).sum())
        >>> rounded = q4.quantize(weight, hessian.diagonal())
        >>> damage(Gptq().solve(weight, hessian, q4)) < 0.5 * damage(rounded)
        True
    """

    damping: float = DAMPING

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: BlockFormat) -> torch.Tensor:
        """Quantise one matrix; see `Solver.solve`."""
        import torch

        if hessian is None:
            raise InvalidInput(
                "The solver 'gptq' needs calibration statistics for this matrix.", remedy="Use 'nearest'."
            )
        factor = inverse_factor(hessian, self.damping)
        number_format = number_format.for_columns(weight.shape[1])
        parts = parts_of(weight, number_format)
        return torch.cat([_compensate(part.float(), factor, number_format) for part in parts])

    def store(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: NumberFormat) -> torch.Tensor:
        """Quantise one matrix in any format.

        Codebooks are learnt on the weights as they were, then compensated for. Codes that stand for several weights are
        chosen for all of them at once (block LDLQ). Columns of tiers are solved tier by tier, the coarsest first.
        """
        from smidgen import formats
        from smidgen.shrink.quantize.solvers import _shaped

        if hessian is None or isinstance(number_format, formats.BlockFormat):
            return super().store(weight, hessian, number_format)
        if isinstance(number_format, formats.TieredFormat):
            return _shaped.by_tiers(weight, hessian, self.damping, number_format)
        if isinstance(number_format, formats.CodebookFormat):
            return _shaped.by_codebook(weight, inverse_factor(hessian, self.damping), number_format)
        if isinstance(number_format, formats.VectorFormat):
            return _shaped.by_vectors(weight, inverse_factor(hessian, self.damping), number_format)
        return super().store(weight, hessian, number_format)


def _compensate(weight: torch.Tensor, factor: torch.Tensor, number_format: BlockFormat) -> torch.Tensor:
    # One column is one contiguous row of the transposed copy.
    return solved(weight.T.contiguous(), factor, slice(0, weight.shape[1]), number_format)


def solved(work: torch.Tensor, factor: torch.Tensor, columns: slice, number_format: BlockFormat) -> torch.Tensor:
    """Store some columns and pass their errors on to all later ones.

    Args:
        work: float32 ``[columns, rows]``, overwritten.
        factor: U, ``[columns, columns]``.
        columns: Which are stored, whole blocks.
        number_format: How.

    Returns:
        Their packed bytes, uint8 ``[rows, bytes per row]``.
    """
    import torch

    from smidgen.formats import Scales

    rows, block = work.shape[1], number_format.block_size
    importance = 1 / factor.diagonal().square()
    codes = torch.empty((columns.stop - columns.start, rows), dtype=torch.uint8)
    fitted: list[Scales] = []
    for start in range(columns.start, columns.stop, block):
        span = slice(start, start + block)
        fitted.append(number_format.fit(work[span].T.contiguous(), importance[span]))
        inner, own = factor[span, span], codes[start - columns.start :][:block]
        if number_format.on_grid:
            errors = _in_block(work[span], inner, fitted[-1], number_format.grid, own)
        else:
            errors = _column_by_column(work[span], inner, fitted[-1], number_format, own)
        if span.stop < len(work):
            work[span.stop :].addmm_(factor[span, span.stop :].T, errors, alpha=-1)
    stored = codes.T.reshape(rows, len(codes) // block, block)
    return number_format.pack(stored, Scales.stack(fitted))


def _in_block(
    work: torch.Tensor, factor: torch.Tensor, scales: Scales, grid: Grid, codes: torch.Tensor
) -> torch.Tensor:
    """Write the codes of a block of columns and return its errors, rows shared out among the threads.

    Args:
        work: ``[columns, rows]``; overwritten.
        factor: ``[columns, columns]``.
        scales: One block per row.
        grid: The format's levels.
        codes: uint8 ``[columns, rows]``, written.
    """
    import torch

    from smidgen.compiled import in_slices
    from smidgen.shrink.quantize.solvers import _columns

    errors = torch.empty_like(work)
    fitted = factor.contiguous(), scales.scale.T.contiguous(), scales.minimum.T.contiguous()
    arrays = [work.numpy(), *(part.numpy() for part in fitted), grid.values, grid.lookup, codes.numpy(), errors.numpy()]

    def solve(rows: slice) -> None:
        _columns.compensate(*arrays, rows.start, rows.stop)

    threads = torch.get_num_threads()
    in_slices(solve, work.shape[1], -(-work.shape[1] // threads), threads)
    return errors


def _column_by_column(
    work: torch.Tensor, factor: torch.Tensor, scales: Scales, number_format: BlockFormat, codes: torch.Tensor
) -> torch.Tensor:
    """Do what `_in_block` does for formats that have their own way from codes to values."""
    import torch

    errors = torch.empty_like(work)
    for column in range(len(work)):
        part = column // number_format.group_size
        scale, minimum = scales.scale[:, part], scales.minimum[:, part]
        codes[column] = number_format.encode(work[column], scale, minimum)
        errors[column] = (work[column] - number_format.decode(codes[column], scale, minimum)) / factor[column, column]
        work[column + 1 :].addr_(factor[column, column + 1 :], errors[column], alpha=-1)
    return errors
