"""Whether two models that answered the same questions differ, as pure functions of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy

from smidgen.errors import InvalidInput

_BLOCK = 2**20  # numbers drawn at a time; bounds the memory of the resamples


@dataclass(frozen=True)
class Difference:
    """How much better the second of two models scored on the same questions.

    Attributes:
        value: Mean of second less first.
        low: Lower end of its interval of 95%.
        high: Upper end.
        p_value: How likely a difference at least as large would be between equal models.
        items: Count of questions.
        test: How the p-value was found.
    """

    value: float
    low: float
    high: float
    p_value: float
    items: int
    test: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test.

    Of the questions that one model alone answered rightly, each is as likely the first's as the second's where the
    models are equal: p = min(1, 2 · P(X ≤ min)) with X binomial of n = both counts and ½. Source: McNemar 1947.

    Args:
        only_first: Questions that only the first answered rightly.
        only_second: Questions that only the second answered rightly.

    Example:
        >>> mcnemar(1, 9), mcnemar(3, 3), mcnemar(0, 0)
        (0.021484375, 1.0, 1.0)
    """
    if only_first < 0 or only_second < 0:
        raise InvalidInput(f"Counts of {only_first} and {only_second} questions cannot be.")
    count, fewer = only_first + only_second, min(only_first, only_second)
    ways = sum(math.comb(count, each) for each in range(fewer + 1))
    return min(1.0, float(2 * ways / 2**count))


def bootstrap(
    first: Sequence[float], second: Sequence[float], *, rounds: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the 95% interval of the mean of second less first, and a p-value, by resampling questions.

    The p-value is twice the share of resampled means on the other side of 0, counting the sample itself.

    Args:
        first: Scores of the first model, one per question.
        second: Scores of the second on the same questions.
        rounds: How often the questions are drawn anew.
        seed: Seed of the drawing.

    Example:
        >>> bootstrap([0, 0, 0], [1, 1, 1], rounds=99)
        (1.0, 1.0, 0.02)
    """
    differences = numpy.asarray(second, numpy.float64) - numpy.asarray(first, numpy.float64)
    _require_pairs(first, second)
    generator, size = numpy.random.default_rng(seed), len(differences)
    means: list[float] = []
    while len(means) < rounds:
        drawn = generator.integers(0, size, (min(rounds - len(means), max(1, _BLOCK // size)), size))
        means.extend(differences[drawn].mean(axis=1).tolist())
    low, high = numpy.quantile(means, (0.025, 0.975))
    below, above = sum(mean <= 0 for mean in means), sum(mean >= 0 for mean in means)
    return float(low), float(high), min(1.0, 2 * (1 + min(below, above)) / (1 + rounds))


def difference(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Difference:
    """Compare two models on the same questions.

    Scores of only 0 and 1 are tested by McNemar's exact test, others by the bootstrap, which also gives the interval.

    Raises:
        InvalidInput: There are no scores, or not as many of each.

    Example:
        >>> found = difference([0] * 9 + [1] + [1] * 10, [1] * 9 + [0] + [1] * 10)
        >>> round(found.value, 3), round(found.p_value, 4), found.test
        (0.4, 0.0215, 'McNemar, exact')
    """
    _require_pairs(first, second)
    low, high, p_value = bootstrap(first, second, seed=seed)
    test = "paired bootstrap"
    if {*first, *second} <= {0, 1}:
        pairs = list(zip(first, second, strict=True))
        p_value = mcnemar(sum(a > b for a, b in pairs), sum(b > a for a, b in pairs))
        test = "McNemar, exact"
    value = (math.fsum(second) - math.fsum(first)) / len(first)
    return Difference(value, low, high, p_value, len(first), test)


def _require_pairs(first: Sequence[float], second: Sequence[float]) -> None:
    if not first or len(first) != len(second):
        raise InvalidInput(f"{len(first)} and {len(second)} scores cannot be compared in pairs.")
