"""Filters against plain definitions of them, and pieces put together."""

from __future__ import annotations

import numpy
import pytest

from smidgen.inference.options import GenerationOptions
from smidgen.inference.pieces import Writing
from smidgen.inference.sampling import Sampler, candidates

SCORES = numpy.random.default_rng(3).normal(size=50) * 3


def shares(options: GenerationOptions) -> dict[int, float]:
    tokens, probabilities = candidates(SCORES, options)
    assert probabilities.sum() == pytest.approx(1)
    return dict(zip(tokens.tolist(), probabilities.tolist(), strict=True))


def open_options(**given: float) -> GenerationOptions:
    return GenerationOptions.from_mapping({"temperature": 1.0, "top_k": 0, "top_p": 1.0, **given})


def test_each_filter_keeps_what_its_definition_says() -> None:
    whole = numpy.exp(SCORES) / numpy.exp(SCORES).sum()
    order = numpy.argsort(-whole)
    assert set(shares(open_options(top_k=5))) == set(order[:5].tolist())
    reached = numpy.cumsum(whole[order])
    needed = int((reached < 0.7).sum()) + 1
    assert set(shares(open_options(top_p=0.7))) == set(order[:needed].tolist())
    assert set(shares(open_options(min_p=0.1))) == set(numpy.flatnonzero(whole >= 0.1 * whole.max()).tolist())
    surprise = -numpy.log(whole)
    near = numpy.argsort(abs(surprise - (whole * surprise).sum()))
    needed = int((numpy.cumsum(whole[near]) < 0.5).sum()) + 1
    assert set(shares(open_options(typical_p=0.5))) == set(near[:needed].tolist())
    warm = shares(open_options(temperature=2.0))
    expected = numpy.exp(SCORES / 2) / numpy.exp(SCORES / 2).sum()
    assert [warm[token] for token in range(50)] == pytest.approx(expected.tolist())


def test_samples_follow_the_probabilities() -> None:
    scores, options = numpy.log([0.5, 0.3, 0.2]), open_options(seed=1)
    sampler = Sampler(options)
    counts = numpy.bincount([sampler.choose(scores, []) for _ in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_penalties_see_only_the_last_tokens() -> None:
    options = GenerationOptions(temperature=0, frequency_penalty=2.0, repeat_last_n=2)
    assert Sampler(options).choose(numpy.array([1.0, 0.0]), [0, 1, 1]) == 0
    assert Sampler(options).choose(numpy.array([1.0, 0.0]), [1, 0]) == 0
    assert Sampler(options).choose(numpy.array([1.0, 0.0]), [1, 0, 0]) == 1


def test_characters_stay_whole_and_stops_are_held_back() -> None:
    writing = Writing(["stop", "stay"])
    parts = [writing.add(bytes([byte])) for byte in "日 stow stay on".encode()]
    assert "".join(parts) == "日 stow " and parts[:2] == ["", ""] and writing.stopped
    unfinished = Writing(["stop"])
    assert unfinished.add(b"a st") == "a " and unfinished.rest() == "st" and not unfinished.stopped
