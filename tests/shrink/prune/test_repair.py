import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import InvalidInput
from smidgen.shrink.prune.repair import least_squares_update, output_error


def problem(seed, outputs=8, inputs=6, tokens=50, rank=None):
    """Weights ``[out, in]``, correlated inputs ``[in, tokens]`` and their Hessian."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float64)
    mixing = torch.randn(inputs, rank or inputs, generator=generator, dtype=torch.float64)
    values = mixing @ torch.randn(rank or inputs, tokens, generator=generator, dtype=torch.float64)
    return weight, values, values @ values.T / tokens


def test_without_damping_it_is_the_least_squares_solution():
    weight, values, hessian = problem(0)
    kept = torch.tensor([0, 2, 3, 5])
    expected = np.linalg.lstsq(values[kept].numpy().T, (weight @ values).numpy().T, rcond=None)[0].T
    update = least_squares_update(weight, hessian, kept, 1e-12)
    np.testing.assert_allclose(update.numpy(), expected, rtol=1e-8)
    assert not np.allclose(update.numpy(), weight[:, kept].numpy(), rtol=0.05)


def test_damping_is_a_pull_towards_the_sliced_weights():
    weight, values, hessian = problem(1)
    kept, damping, tokens = torch.tensor([1, 2, 4]), 0.3, values.shape[1]
    pull = np.sqrt(damping * float(hessian.diag()[kept].mean()) * tokens)
    inputs = np.vstack([values[kept].numpy().T, pull * np.eye(3)])
    targets = np.vstack([(weight @ values).numpy().T, pull * weight[:, kept].numpy().T])
    expected = np.linalg.lstsq(inputs, targets, rcond=None)[0].T
    np.testing.assert_allclose(least_squares_update(weight, hessian, kept, damping).numpy(), expected, rtol=1e-8)


def test_the_output_error_is_that_of_the_outputs():
    weight, values, hessian = problem(2)
    kept = torch.tensor([0, 1, 5])
    update = least_squares_update(weight, hessian, kept)
    measured = (weight @ values - update @ values[kept]).square().sum(0).mean()
    assert output_error(weight, hessian, kept, update) == pytest.approx(float(measured), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    keep=st.integers(1, 5),
    damping=st.sampled_from([1e-9, 1e-4, 0.01, 1.0, 1e3]),
    rank=st.sampled_from([1, 3, 6]),
)
def test_it_is_never_worse_than_slicing(seed, keep, damping, rank):
    weight, _, hessian = problem(seed, rank=rank)
    kept = torch.randperm(6, generator=torch.Generator().manual_seed(seed))[:keep].sort().values
    repaired = output_error(weight, hessian, kept, least_squares_update(weight, hessian, kept, damping))
    sliced = output_error(weight, hessian, kept, weight[:, kept])
    assert repaired <= sliced * (1 + 1e-6) + 1e-9


def test_inputs_that_never_fire_leave_plain_slicing():
    weight = torch.randn(8, 6)
    kept = torch.tensor([0, 4])
    assert torch.equal(least_squares_update(weight, torch.zeros(6, 6), kept), weight[:, kept])


def test_a_hessian_that_rounding_made_indefinite_is_damped_until_it_serves():
    weight, _, hessian = problem(3, rank=2)
    kept = torch.tensor([0, 1, 2, 3])
    update = least_squares_update(weight, hessian - 1e-3 * torch.eye(6), kept, 1e-9)
    assert update.isfinite().all()
    assert output_error(weight, hessian, kept, update) < output_error(weight, hessian, kept, weight[:, kept])


def test_the_type_of_the_weights_stays():
    weight, _, hessian = problem(4)
    assert least_squares_update(weight.bfloat16(), hessian.float(), torch.tensor([1])).dtype == torch.bfloat16


@pytest.mark.parametrize("damping", [0.0, -1.0])
def test_damping_must_be_positive(damping):
    weight, _, hessian = problem(5)
    with pytest.raises(InvalidInput, match="above 0"):
        least_squares_update(weight, hessian, torch.tensor([1]), damping)


def test_values_that_are_not_finite_are_refused():
    weight, _, hessian = problem(6)
    hessian[0, 0] = float("nan")
    with pytest.raises(InvalidInput, match="not finite"):
        least_squares_update(weight, hessian, torch.tensor([1]))
