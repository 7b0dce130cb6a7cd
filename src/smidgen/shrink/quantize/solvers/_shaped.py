"""Error compensation for formats whose codes are not chosen weight by weight under the scale of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smidgen.shrink.hessian import inverse_factor
from smidgen.shrink.quantize.solvers import parts_of

if TYPE_CHECKING:
    import torch

    from smidgen.formats import CodebookFormat, TieredFormat, VectorFormat

COLUMNS = 128
"""Columns of a row with a codebook whose errors reach the later ones in one product."""


def by_codebook(weight: torch.Tensor, factor: torch.Tensor, number_format: CodebookFormat) -> torch.Tensor:
    """Store rows that have their own values, which are learnt on the weights as they were.

    Args:
        weight: ``[rows, columns]``.
        factor: U, ``[columns, columns]``.
        number_format: How they are stored.
    """
    import torch

    return torch.cat([_by_codebook(part.float(), factor, number_format) for part in parts_of(weight, number_format)])


def _by_codebook(weight: torch.Tensor, factor: torch.Tensor, number_format: CodebookFormat) -> torch.Tensor:
    import torch

    from smidgen.formats import nearest

    codebook = number_format.learn(weight, 1 / factor.diagonal().square())
    work = weight.T.contiguous()
    codes = torch.empty(work.shape, dtype=torch.uint8)
    for start in range(0, len(work), COLUMNS):
        span = slice(start, min(start + COLUMNS, len(work)))
        errors = torch.empty_like(work[span])
        for place, column in enumerate(range(span.start, span.stop)):
            found = nearest(work[column, :, None], codebook)
            codes[column] = found[:, 0]
            errors[place] = (work[column] - codebook.gather(1, found)[:, 0]) / factor[column, column]
            work[column + 1 : span.stop].addr_(factor[column, column + 1 : span.stop], errors[place], alpha=-1)
        if span.stop < len(work):
            work[span.stop :].addmm_(factor[span, span.stop :].T, errors, alpha=-1)
    return number_format.join(codes.T.contiguous(), codebook)


def by_vectors(weight: torch.Tensor, factor: torch.Tensor, number_format: VectorFormat) -> torch.Tensor:
    """Store columns of which several are one code: block LDLQ of QuIP# (Tseng 2024, arXiv 2402.04396).

    For columns B, e = (w_B − ŵ_B)·U_BB⁻¹ and w_later −= e·U_B,later. What e costs once the later columns have repaired
    what they can is ‖e‖², by which the code is chosen. A codebook is learnt on the weights as they were.

    Args:
        weight: ``[rows, columns]``.
        factor: U, ``[columns, columns]``.
        number_format: How they are stored.
    """
    import torch

    parts = parts_of(weight, number_format) if number_format.stands_alone else [weight]
    return torch.cat([_by_vectors(part.float(), factor, number_format) for part in parts])


def _by_vectors(weight: torch.Tensor, factor: torch.Tensor, number_format: VectorFormat) -> torch.Tensor:
    import torch

    importance, work = 1 / factor.diagonal().square(), weight.clone()
    group, lanes = number_format.group, number_format.lanes
    book = number_format.learn(weight, importance[None])
    codes, scales = [], []
    for start in range(0, work.shape[1], group):
        span = slice(start, start + group)
        scales.append(number_format.fit(work[:, span].contiguous(), importance[None, span]))
        errors = torch.empty(len(work), group)
        for first in range(start, span.stop, lanes):
            own, later = slice(first, first + lanes), slice(first + lanes, span.stop)
            turn = torch.linalg.inv(factor[own, own]).triu()
            found, values = number_format.encode(work[:, own].contiguous(), scales[-1], turn, book)
            codes.append(found)
            rest = (work[:, own] - values) @ turn
            errors[:, first - start : first - start + lanes] = rest
            work[:, later] -= rest @ factor[own, later]
        work[:, span.stop :].addmm_(errors, factor[span, span.stop :], alpha=-1)
    return number_format.join(torch.stack(codes, 1), torch.stack(scales, 1), book)


def by_tiers(weight: torch.Tensor, hessian: torch.Tensor, damping: float, number_format: TieredFormat) -> torch.Tensor:
    """Store columns in tiers that all rows have in common, the coarsest first, so that the finest repair the most.

    A column's worth is its input's mean square times that of its weights, to which an error of so many bits is
    proportional.

    Args:
        weight: ``[rows, columns]``.
        hessian: Of its inputs, ``[columns, columns]``.
        damping: See `inverse_factor`.
        number_format: How they are stored.
    """
    import torch

    from smidgen.shrink.quantize.solvers.gptq import solved

    score = hessian.diagonal() * weight.float().square().mean(0)
    tiers = [(kind, columns[0]) for kind, columns in number_format.divide(score[None])]
    order = torch.cat([columns for _, columns in reversed(tiers)])
    factor = inverse_factor(hessian[order][:, order], damping)

    def stored(part: torch.Tensor) -> torch.Tensor:
        work, packed, start = part.float().T[order].contiguous(), [], 0
        for kind, columns in reversed(tiers):
            span = slice(start, start + len(columns))
            packed.append((columns.expand(len(part), -1), solved(work, factor, span, kind)))
            start = span.stop
        return number_format.gather(packed[::-1], len(order))

    return torch.cat([stored(part) for part in parts_of(weight, number_format)])
