"""Error compensation of formats whose codes stand for several weights, or whose columns have several formats."""

from __future__ import annotations

import pytest
import torch

from smidgen import formats
from smidgen.errors import InvalidInput
from smidgen.shrink.quantize import solvers

SHAPED = [
    "vector",
    "vector:codebook=learned,bits=6",
    "vector:codebook=learned,size=2,bits=5",
    "tiers",
    "tiers:low=1,group=32",
]
each_shaped = pytest.mark.parametrize("spelled", SHAPED)
DAMPING = 0.01


def correlated(columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(600, columns // 8, generator=generator) @ torch.randn(
        columns // 8, columns, generator=generator
    )
    inputs = inputs * (torch.rand(columns, generator=generator) + 0.3)
    inputs += 0.2 * torch.randn(inputs.shape, generator=generator)
    return inputs.T @ inputs / len(inputs)


def weights(rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 0.1


def upper_factor(hessian: torch.Tensor) -> torch.Tensor:
    """U of H⁻¹ = Uᵀ·U in float64, by way of the inverse."""
    exact = hessian.double()
    exact = exact + torch.eye(len(exact), dtype=torch.float64) * exact.diagonal().mean() * DAMPING
    return torch.linalg.cholesky(torch.linalg.inv(exact)).T


@each_shaped
def test_they_do_less_harm_than_rounding(spelled):
    number_format = formats.find(spelled)
    for seed in range(2):
        weight, hessian = weights(24, 256, seed), correlated(256, seed)
        found = {}
        for solver in ("nearest", "gptq"):
            packed = solvers.find(solver).store(weight, hessian, number_format)
            assert packed.numel() == number_format.bytes_for((24, 256))
            change = number_format.unpack(packed) - weight
            found[solver] = float(((change @ hessian) * change).sum())
        assert found["gptq"] < 0.5 * found["nearest"], found


@pytest.mark.parametrize("spelled", SHAPED[:3])
def test_every_code_is_the_one_that_costs_least_of_all(spelled):
    """Block by block in float64, as the paper prints it, against every point that a code can stand for."""
    number_format, weight, hessian = formats.find(spelled), weights(6, 128), correlated(128)
    packed = solvers.find("gptq", damping=DAMPING).store(weight, hessian, number_format)
    check_codes(number_format, weight, hessian, packed)
    with pytest.raises(AssertionError):
        check_codes(number_format, weight, hessian, number_format.quantize(weight))


def check_codes(number_format, weight: torch.Tensor, hessian: torch.Tensor, packed: torch.Tensor) -> None:
    work, upper, lanes = weight.double().clone(), upper_factor(hessian), number_format.lanes
    stored, points = number_format.unpack(packed).double(), every_point(number_format, packed).double()
    for start in range(0, work.shape[1], lanes):
        own, later = slice(start, start + lanes), slice(start + lanes, None)
        turn = torch.linalg.inv(upper[own, own])
        metric = turn @ turn.T
        if number_format.codebook == "e8":
            metric = torch.diag(metric.diagonal())
        for row in range(len(work)):
            scale = scale_of(number_format, packed, row, start // number_format.group)
            rest = points * scale - work[row, own]
            least = ((rest @ metric) * rest).sum(1).min()
            own_rest = stored[row, own] - work[row, own]
            assert own_rest @ metric @ own_rest <= 1.001 * least + 1e-9
        errors = (work[:, own] - stored[:, own]) @ turn
        work[:, later] -= errors @ upper[own, later]


def every_point(number_format, packed: torch.Tensor) -> torch.Tensor:
    if number_format.codebook == "e8":
        codes = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.uint8).reshape(-1, 16)
        ones = torch.tensor([1.0]).half().view(torch.uint8).expand(len(codes), 2)
        return number_format.unpack(torch.cat([ones, codes], 1)).reshape(-1, 8)
    carried = number_format.bytes_for((len(packed), 128)) // len(packed) - number_format.type_size * 2
    book = packed[:, :carried].flatten()[: number_format.lanes * 2 << number_format.bits]
    return book.view(torch.float16).float().reshape(-1, number_format.lanes)


def scale_of(number_format, packed: torch.Tensor, row: int, group: int) -> float:
    begin = packed.shape[1] - number_format.type_size * (2 - group)
    return float(packed[row, begin : begin + 2].clone().view(torch.float16))


@pytest.mark.parametrize("spelled", SHAPED[3:])
def test_tiers_are_solved_from_the_coarsest_to_the_finest(spelled):
    """Column by column in float64: every level the nearest to the weight as the columns before it left it."""
    tiers, weight, hessian = formats.find(spelled), weights(6, 256), correlated(256)
    stored = solvers.find("gptq", damping=DAMPING).store(weight, hessian, tiers)
    score = hessian.diagonal() * weight.square().mean(0)
    check_tiers(tiers, weight, hessian, stored, score)
    with pytest.raises(AssertionError):
        check_tiers(tiers, weight, hessian, tiers.quantize(weight, hessian.diagonal()), score)


def check_tiers(tiers, weight: torch.Tensor, hessian: torch.Tensor, packed: torch.Tensor, score: torch.Tensor) -> None:
    divided = [(kind, columns[0]) for kind, columns in tiers.divide(score[None])]
    order = torch.cat([columns for _, columns in reversed(divided)])
    assert sorted(order.tolist()) == list(range(len(order))) and divided[0][0].code_bits == 8
    upper, work = upper_factor(hessian[order][:, order]), weight[:, order].double()
    end, scales_of = packed.shape[1], []
    for kind, columns in reversed(divided):  # as they lie from the end of the row
        size = len(columns) // kind.group * kind.type_size
        _, scales = kind.unpack_codes(packed[:, end - size : end].contiguous())
        scales_of += [(kind, scales.scale[:, group, 0]) for group in range(len(columns) // kind.group)]
        end -= size
    values = tiers.unpack(packed)[:, order].double()
    for column in range(len(order)):
        kind, scale = scales_of[column // tiers.group]
        possible = torch.tensor(kind.levels, dtype=torch.float64) * scale[:, None].double()
        nearest = (possible - work[:, column, None]).abs().amin(1)
        rest = work[:, column] - values[:, column]
        assert bool((rest.abs() <= nearest + 1e-4 * scale.abs()).all()), column
        work[:, column + 1 :] -= torch.outer(rest / upper[column, column], upper[column, column + 1 :])


@each_shaped
def test_without_statistics_they_are_rounded(spelled):
    number_format, weight = formats.find(spelled), weights(8, 128)
    assert torch.equal(solvers.find("gptq").store(weight, None, number_format), number_format.quantize(weight))


@each_shaped
def test_large_matrices_are_stored_in_parts(spelled, monkeypatch):
    number_format, weight, hessian = formats.find(spelled), weights(21, 128), correlated(128)
    whole = solvers.find("gptq").store(weight, hessian, number_format)
    monkeypatch.setattr(solvers, "ROWS_AT_A_TIME", 8)
    parts = solvers.find("gptq").store(weight, hessian, number_format)
    assert whole.shape == parts.shape
    one, other = number_format.unpack(whole), number_format.unpack(parts)
    assert float((one - other).square().sum()) < 1e-2 * float((one - weight).square().sum())


@each_shaped
def test_inputs_that_never_occur_and_what_is_no_number(spelled):
    number_format, weight, hessian = formats.find(spelled), weights(8, 128), correlated(128)
    hessian[::5], hessian[:, ::5] = 0, 0
    values = number_format.unpack(solvers.find("gptq").store(weight, hessian * 1e-12, number_format))
    assert bool(values.isfinite().all()) and float((values - weight).square().sum()) < float(weight.square().sum())
    weight[2, 40] = float("nan")
    with pytest.raises(InvalidInput):
        solvers.find("gptq").store(weight, hessian, number_format)
