"""Divergences against a second implementation in float64, whole and in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.divergence import jensen_shannon, kl, negative_log_likelihood, same_top

Row = numpy.ndarray[Any, numpy.dtype[numpy.float64]]


def softmax(row: Row) -> Row:
    raised = numpy.exp(row - row.max())
    return raised / raised.sum()


def naive_kl(p: Row, q: Row) -> float:
    return sum(float(a) * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def naive_jensen_shannon(p: Row, q: Row, beta: float) -> float:
    mixed = beta * p + (1 - beta) * q
    return beta * naive_kl(p, mixed) + (1 - beta) * naive_kl(q, mixed)


def logits(seed: int, tokens: int = 7, vocabulary: int = 11, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def rows(values: torch.Tensor) -> list[Row]:
    return [softmax(row) for row in values.double().numpy()]


def test_kl_is_that_of_the_definition() -> None:
    source, result = logits(1), logits(2)
    expected = [naive_kl(p, q) for p, q in zip(rows(source), rows(result), strict=True)]
    numpy.testing.assert_allclose(kl(source, result).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_is_that_of_the_definition(beta: float) -> None:
    source, result = logits(1), logits(2)
    expected = [naive_jensen_shannon(p, q, beta) for p, q in zip(rows(source), rows(result), strict=True)]
    numpy.testing.assert_allclose(jensen_shannon(source, result, beta=beta).numpy(), expected, rtol=1e-5)


def test_likelihood_is_that_of_the_definition() -> None:
    values, targets = logits(1), torch.tensor([0, 10, 3, 3, 5, 1, 9])
    expected = [-math.log(row[target]) for row, target in zip(rows(values), targets.tolist(), strict=True)]
    numpy.testing.assert_allclose(negative_log_likelihood(values, targets).numpy(), expected, rtol=1e-5)


def test_the_same_top_token_is_the_first_of_equals() -> None:
    source = torch.tensor([[1.0, 2.0, 0.0], [5.0, 5.0, 0.0], [0.0, 1.0, 2.0]])
    result = torch.tensor([[0.0, 9.0, 8.0], [5.0, 6.0, 0.0], [0.0, -1.0, 7.0]])
    assert same_top(source, result).tolist() == [True, False, True]


@pytest.mark.parametrize("measure", [kl, jensen_shannon])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_distributions_are_no_distance_apart(measure: Callable[..., torch.Tensor], dtype: torch.dtype) -> None:
    values = logits(1, 300).to(dtype)
    torch.testing.assert_close(measure(values, values), torch.zeros(300), atol=2e-7, rtol=0)
    torch.testing.assert_close(measure(values, values.float() + 4.0), torch.zeros(300), atol=1e-5, rtol=0)
    assert measure(values, values).dtype == torch.float32


@pytest.mark.parametrize("measure", [kl, jensen_shannon])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_make_no_difference(measure: Callable[..., torch.Tensor], chunk: int) -> None:
    source, result = logits(1), logits(2)
    whole = measure(source, result, chunk=7)
    torch.testing.assert_close(measure(source, result, chunk=chunk), whole, atol=1e-6, rtol=1e-6)
    targets = torch.arange(7)
    parts, whole = (negative_log_likelihood(source, targets, chunk=size) for size in (chunk, 7))
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-6)


def test_no_tokens_have_no_divergence() -> None:
    none = torch.zeros(0, 5)
    assert kl(none, none).shape == jensen_shannon(none, none).shape == same_top(none, none).shape == (0,)
    assert negative_log_likelihood(none, torch.zeros(0, dtype=torch.long)).shape == (0,)


def test_a_certain_source_is_as_far_as_its_token_is_unlikely() -> None:
    source = torch.tensor([[100.0, 0.0, 0.0]])
    result = torch.log(torch.tensor([[0.25, 0.5, 0.25]]))
    assert float(kl(source, result)) == pytest.approx(math.log(4), rel=1e-6)
    apart = jensen_shannon(torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1000.0]]))
    assert float(apart) == pytest.approx(math.log(2), rel=1e-6)


def test_kl_has_the_gradient_of_its_definition() -> None:
    source, result = logits(1), logits(2).requires_grad_()
    kl(source, result).sum().backward()
    assert result.grad is not None
    torch.testing.assert_close(result.grad, result.detach().softmax(-1) - source.softmax(-1), atol=1e-6, rtol=1e-4)


finite = st.floats(-30, 30, width=32)
distributions = st.lists(st.tuples(finite, finite), min_size=2, max_size=12)


@settings(max_examples=200, deadline=None)
@given(pairs=distributions, beta=st.floats(0.05, 0.95), shift=finite)
def test_properties(pairs: list[tuple[float, float]], beta: float, shift: float) -> None:
    source, result = (torch.tensor([column]) for column in zip(*pairs, strict=True))
    p, q = rows(source)[0], rows(result)[0]
    apart, mixed = float(kl(source, result)), float(jensen_shannon(source, result, beta=beta))
    assert apart == pytest.approx(naive_kl(p, q), rel=1e-3, abs=2e-5) and apart > -1e-5
    assert mixed == pytest.approx(naive_jensen_shannon(p, q, beta), rel=1e-3, abs=2e-5)
    assert -1e-5 < mixed <= math.log(2) + 1e-5
    assert float(kl(source + shift, result)) == pytest.approx(apart, rel=1e-3, abs=1e-4)
    halves = (float(jensen_shannon(source, result)), float(jensen_shannon(result, source)))
    assert halves[0] == pytest.approx(halves[1], rel=1e-4, abs=1e-6)
