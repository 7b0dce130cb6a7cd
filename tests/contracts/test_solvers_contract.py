"""What every solver must keep, run on every file of the room: pure maths, without any model."""

from __future__ import annotations

import pytest
import torch

from smidgen import formats, registry
from smidgen.errors import InvalidInput
from smidgen.shrink.quantize import solvers
from smidgen.shrink.quantize.allocate import block_formats

NAMES = registry.names(solvers.__name__)
BLOCKS = [
    *block_formats(),
    *("integer:bits=4", "integer:bits=3,group=32,symmetric=false", "float4", "fixed_point:bits=4,group=32"),
    *("hierarchical:bits=4", "ternary:group=64", "integer:bits=4,group=32,shared=true"),
]
each_solver = pytest.mark.parametrize("solver", NAMES)
each_block = pytest.mark.parametrize("number_format", BLOCKS)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def correlated(columns: int, *, seed: int = 0, noise: float = 0.1) -> torch.Tensor:
    """H = XᵀX/n of inputs that mostly vary in few directions, as a model's do."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(columns // 8, columns, generator=generator)
    inputs = torch.randn(2 * columns, columns // 8, generator=generator) @ directions
    inputs += noise * torch.randn(inputs.shape, generator=generator)
    return inputs.T @ inputs / len(inputs)


def weights(rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def damage(weight: torch.Tensor, packed: torch.Tensor, hessian: torch.Tensor, number_format) -> float:
    change = (number_format.unpack(packed) - weight).double()
    return float(((change @ hessian.double()) * change).sum())


def replay(weight: torch.Tensor, hessian: torch.Tensor, number_format, packed: torch.Tensor, damping: float) -> None:
    """Walk through a solution as the paper prints the algorithm, one column at a time in float64, checking each choice.

    Two implementations that round sums differently part ways at the first tie, so it is the choices that are
    compared: every code the nearest to the weight as the columns before it left it, every scale as good as a search
    on those weights finds.
    """
    work, exact = weight.double().clone(), hessian.double().clone()
    exact += torch.eye(len(exact), dtype=torch.float64) * exact.diagonal().mean() * damping
    upper = torch.linalg.cholesky(torch.linalg.inv(exact)).T
    importance = (1 / upper.diagonal() ** 2).float()
    block, group = number_format.block_size, number_format.group_size
    _, scales = number_format.unpack_codes(packed)
    stored = number_format.unpack(packed).double()
    levels = torch.tensor(number_format.levels, dtype=torch.float64)
    for column in range(work.shape[1]):
        number, part = column // block, (column % block) // group
        if column % block == 0:
            span = slice(column, column + block)
            assert_fitted(work[:, span].float(), importance[span], number_format, scales, number)
        scale, minimum = scales.scale[:, number, part].double(), scales.minimum[:, number, part].double()
        possible = levels * scale[:, None] - minimum[:, None]
        nearest = (possible - work[:, column, None]).abs().amin(1)
        assert bool(((stored[:, column] - work[:, column]).abs() <= nearest + 1e-4 * scale.abs()).all())
        error = (work[:, column] - stored[:, column]) / upper[column, column]
        work[:, column + 1 :] -= torch.outer(error, upper[column, column + 1 :])


def assert_fitted(work, importance, number_format, scales, number) -> None:
    """The scales of a block leave no more error than those that a search on these weights finds."""
    grouped = work.reshape(len(work), -1, number_format.group_size)

    def error(scale, minimum):
        codes = number_format.encode(grouped, scale[..., None], minimum[..., None])
        rest = number_format.decode(codes, scale[..., None], minimum[..., None]) - grouped
        return (rest.flatten(1).square() * importance).sum(1)

    found = number_format.fit(work.contiguous(), importance)
    best = error(found.scale, found.minimum)
    assert bool((error(scales.scale[:, number], scales.minimum[:, number]) <= 1.001 * best + 1e-9).all())


def test_the_room_holds_four_solvers():
    assert NAMES == ("gptq", "learned", "nearest", "scale")


@each_block
@each_solver
def test_bytes_are_those_of_the_format_and_the_weight_is_not_changed(solver, number_format):
    chosen, weight, hessian = formats.find(number_format), weights(5, 512), correlated(512)
    before, before_hessian = weight.clone(), hessian.clone()
    packed = solvers.find(solver).solve(weight, hessian, chosen)
    assert packed.dtype == torch.uint8
    assert packed.shape == (5, chosen.bytes_for((5, 512)) // 5)
    assert torch.equal(weight, before) and torch.equal(hessian, before_hessian)
    assert torch.equal(packed, solvers.find(solver).solve(weight, hessian, chosen)), "not repeatable"
    kept = (chosen.unpack(packed) - weight).square().mean() / weight.square().mean()
    assert kept < 3 * 4.0 ** -(chosen.bits_per_weight - 1), "worse than so many bits may be"


@each_block
def test_gptq_does_less_harm_than_rounding_where_inputs_are_correlated(number_format):
    chosen = formats.find(number_format)
    for seed in range(3):
        weight, hessian = weights(16, 512, seed), correlated(512, seed=seed)
        found = {
            name: damage(weight, solvers.find(name).solve(weight, hessian, chosen), hessian, chosen) for name in NAMES
        }
        assert found["gptq"] < 0.7 * found["nearest"]
        assert found["learned"] < 0.9 * found["nearest"]


@each_block
def test_gptq_is_rounding_where_inputs_are_independent(number_format):
    chosen, weight = formats.find(number_format), weights(16, 512)
    hessian = torch.diag(torch.rand(512, generator=torch.Generator().manual_seed(3)) + 0.1)
    # Damping adds to the weights of the columns; with almost none both solvers see the same ones.
    compensated = solvers.find("gptq", damping=1e-12).solve(weight, hessian, chosen)
    rounded = solvers.find("nearest").solve(weight, hessian, chosen)
    assert damage(weight, compensated, hessian, chosen) == pytest.approx(
        damage(weight, rounded, hessian, chosen), rel=1e-3
    )


@each_solver
def test_weights_on_the_grid_are_kept_exactly(solver):
    q4_1, generator = formats.find("q4_1"), torch.Generator().manual_seed(4)
    # Every block uses the whole range of codes, so that the scale is known from the weights alone.
    codes = torch.randint(0, 16, (12, 8, 32), generator=generator)
    codes[..., 0], codes[..., 1] = 0, 15
    scale, minimum = ((torch.rand(12, 8, 1, generator=generator) + part).half().float() for part in (0.5, -1.0))
    weight = (codes * scale + minimum).flatten(1)
    for hessian in (correlated(256), torch.eye(256)):
        packed = solvers.find(solver).solve(weight, hessian, q4_1)
        assert torch.equal(q4_1.unpack(packed), weight)


@each_block
@each_solver
def test_inputs_that_never_occur_are_rounded_and_harm_nothing(solver, number_format):
    chosen, weight, hessian = formats.find(number_format), weights(8, 256), correlated(256)
    silent = torch.arange(3, 256, 5)
    hessian[silent], hessian[:, silent] = 0, 0
    values = chosen.unpack(solvers.find(solver).solve(weight, hessian, chosen))
    assert values.isfinite().all()
    lost = (values - weight)[:, silent].square().mean() / weight.square().mean()
    assert lost < 1, "weights of silent inputs are thrown away"
    assert damage(weight, chosen.quantize(torch.zeros_like(weight)), hessian, chosen) > damage(
        weight, solvers.find(solver).solve(weight, hessian, chosen), hessian, chosen
    )


@each_solver
def test_inputs_that_never_occur_at_all_are_rounded(solver):
    q8_0, weight = formats.find("q8_0"), weights(4, 64)
    values = q8_0.unpack(solvers.find(solver).solve(weight, torch.zeros(64, 64), q8_0))
    assert (values - weight).abs().max() < 0.03


@each_solver
def test_a_hessian_that_is_not_positive_definite_is_damped_more(solver):
    q4_0, weight, hessian = formats.find("q4_0"), weights(8, 64), correlated(64)
    smallest = torch.linalg.eigvalsh(hessian)[0]
    hessian -= torch.eye(64) * (smallest + 0.05 * hessian.diagonal().mean())
    assert torch.linalg.cholesky_ex(hessian)[1] != 0
    values = q4_0.unpack(solvers.find(solver).solve(weight, hessian, q4_0))
    assert (values - weight).square().mean() < 0.2 * weight.square().mean()


@each_solver
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_statistics_that_are_no_numbers_are_an_error(solver, bad):
    q4_0, hessian = formats.find("q4_0"), correlated(64)
    hessian[7, 7] = bad
    with pytest.raises(InvalidInput):
        solvers.find(solver).solve(weights(4, 64), hessian, q4_0)


@each_solver
def test_weights_that_are_no_numbers_are_an_error(solver):
    weight = weights(4, 64)
    weight[2, 40] = float("nan")
    with pytest.raises(InvalidInput):
        solvers.find(solver).solve(weight, correlated(64), formats.find("q4_0"))


@each_solver
def test_a_solver_that_reads_no_pairs_goes_by_the_diagonal_alone(solver):
    found, q4_0, hessian = solvers.find(solver), formats.find("q4_0"), correlated(64)
    if found.reads_pairs:
        assert not torch.equal(
            found.solve(weights(8, 64), hessian, q4_0), found.solve(weights(8, 64), torch.eye(64), q4_0)
        )
    else:
        alone = found.solve(weights(8, 64), hessian.diagonal(), q4_0)
        assert torch.equal(found.solve(weights(8, 64), hessian, q4_0), alone)


@each_solver
def test_weights_of_sixteen_bits_are_solved_as_the_floats_they_are(solver):
    q4_0, weight = formats.find("q4_0"), weights(8, 64).bfloat16()
    whole = solvers.find(solver).solve(weight.float(), correlated(64), q4_0)
    assert torch.equal(solvers.find(solver).solve(weight, correlated(64), q4_0), whole)


def test_gptq_without_statistics_names_the_other_solver():
    with pytest.raises(InvalidInput, match="'nearest'"):
        solvers.find("gptq").solve(weights(4, 64), None, formats.find("q4_0"))


@each_block
@each_solver
def test_a_solver_does_not_depend_on_how_many_rows_are_solved_at_once(solver, number_format, monkeypatch):
    chosen, weight, hessian = formats.find(number_format), weights(21, 256), correlated(256)
    whole = chosen.unpack(solvers.find(solver).solve(weight, hessian, chosen))
    monkeypatch.setattr(solvers, "ROWS_AT_A_TIME", 8)
    parts = chosen.unpack(solvers.find(solver).solve(weight, hessian, chosen))
    # Matrix products of other sizes differ in their last bits, which now and then tips a rounding.
    assert (whole == parts).double().mean() > 0.99
    assert float((whole - parts).square().sum()) < 1e-2 * float((whole - weight).square().sum())


@each_block
def test_every_choice_of_gptq_is_the_one_of_the_paper(number_format):
    chosen, weight, hessian = formats.find(number_format), weights(8, 512), correlated(512)
    packed = solvers.find("gptq").solve(weight, hessian, chosen)
    replay(weight, hessian, chosen, packed, damping=0.01)
    with pytest.raises(AssertionError):
        replay(weight, hessian, chosen, chosen.quantize(weight), damping=0.01)
