import pytest
import torch

from smidgen.errors import InvalidInput
from smidgen.shrink.hessian import DAMPING, inverse_factor


def hessian(size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(256, size // 2, generator=generator) @ torch.randn(size // 2, size, generator=generator)
    inputs += 0.5 * torch.randn(256, size, generator=generator)
    return inputs.T @ inputs / 256


@pytest.mark.parametrize("damping", [1e-9, DAMPING, 0.5])
def test_the_factor_is_that_of_the_damped_inverse(damping):
    given = hessian(64)
    factor = inverse_factor(given, damping)
    assert factor.dtype == torch.float32 and torch.equal(factor, factor.triu())
    exact, unit = given.double(), torch.eye(64, dtype=torch.float64)
    damped = exact + unit * exact.diagonal().mean() * damping
    assert torch.allclose(factor.double().T @ factor.double() @ damped, unit, atol=1e-3)


def test_damping_rises_until_the_factor_exists():
    singular = torch.ones(8, 8)
    assert torch.equal(inverse_factor(singular, 0.0), inverse_factor(singular, DAMPING))


def test_inputs_that_never_occur_repair_nothing():
    assert inverse_factor(torch.zeros(3, 3)).isfinite().all()
    given = hessian(8)
    given[3], given[:, 3] = 0, 0
    factor = inverse_factor(given)
    assert factor[3].count_nonzero() == 1 and factor[:, 3].count_nonzero() == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_figures_are_refused(value):
    with pytest.raises(InvalidInput, match="cannot be inverted"):
        inverse_factor(torch.full((3, 3), value))


def test_the_factor_does_not_depend_on_how_many_columns_are_worked_out_at_once(monkeypatch):
    whole = inverse_factor(hessian(64))
    monkeypatch.setattr("smidgen.shrink.hessian.COLUMNS_AT_A_TIME", 24)
    parts = inverse_factor(hessian(64))
    assert torch.equal(parts, parts.triu()) and torch.allclose(parts, whole, rtol=1e-5, atol=1e-7)
