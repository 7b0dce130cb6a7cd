"""What measuring says about a model in one number, its interval and one plain sentence: the form of every finding."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from smidgen.errors import InvalidInput

Z = 1.959963984540054
"""Standard deviations on either side of a mean that hold 95% of a normal distribution."""

_NORMAL = 10_000  # degrees of freedom from which on Student's t is taken for normal
_STEPS = 100  # of Simpson's rule


@dataclass(frozen=True)
class Point:
    """One place of a finding's curve.

    Attributes:
        at: Where: a count of tokens, of turns, of streams, or the name of a noise.
        value: What was found there.
        low: Lower end of its interval of 95%, None where there is none.
        high: Upper end.
        items: Questions, runs or texts behind it.
    """

    at: float | str
    value: float
    low: float | None = None
    high: float | None = None
    items: int = 0


@dataclass(frozen=True)
class Finding:
    """One named figure of a model, with its interval and what it means.

    Attributes:
        name: What was measured, as an identifier: "long_range", "turns", "repetition" …
        value: The figure; None where it could not be measured, and ``sentence`` then says why.
        unit: What the figure counts: "share", "points", "bits per byte", "tokens/s", "joules per token" …
        low: Lower end of the interval of 95%; None where there is none.
        high: Upper end.
        items: Questions, texts, answers or runs behind it.
        sentence: What it means, for a person who knows none of the terms.
        weak: Whether it is a weakness to be named; None where the figure cannot say.
        axis: What ``points`` stand at ("tokens of context"); empty without a curve.
        points: The curve behind the figure, in the order to be drawn.
        setting: How to measure it again: seed, text, limits.

    Example:
        >>> found = Finding("turns", 0.5, "share", sentence="It remembers half.", low=0.2, high=0.8, items=10)
        >>> Finding.from_dict(found.to_dict()) == found
        True
    """

    name: str
    value: float | None
    unit: str
    sentence: str
    low: float | None = None
    high: float | None = None
    items: int = 0
    weak: bool | None = None
    axis: str = ""
    points: tuple[Point, ...] = ()
    setting: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"points": [asdict(point) for point in self.points]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """Read what `to_dict` returned.

        Raises:
            InvalidInput: Something is missing or not known.
        """
        known = {field.name for field in fields(cls)}
        try:
            points = tuple(Point(**each) for each in data.get("points", ()))
            return cls(**({name: value for name, value in data.items() if name in known} | {"points": points}))
        except (TypeError, AttributeError) as error:
            raise InvalidInput(f"This is no finding: {error}.") from error


def share_interval(right: int, items: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share, which stays within 0 and 1 and is sound for few items.

    With p = right / n and z = 1.96: (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n). Source: Wilson 1927,
    doi:10.1080/01621459.1927.10502953.

    Args:
        right: How many of the items count.
        items: How many there are.

    Raises:
        InvalidInput: There are no items, or more count than there are.

    Example:
        >>> [round(end, 4) for end in share_interval(8, 10)]
        [0.4902, 0.9433]
    """
    if not 0 <= right <= items or items < 1:
        raise InvalidInput(f"{right} of {items} items is no share.")
    share = right / items
    middle = share + Z**2 / (2 * items)
    wide = Z * math.sqrt(share * (1 - share) / items + Z**2 / (4 * items**2))
    whole = 1 + Z**2 / items
    low = 0.0 if right == 0 else (middle - wide) / whole
    return low, 1.0 if right == items else (middle + wide) / whole


def show_interval(finding: Finding) -> str:
    """Write a finding's figure with its interval, as tables do.

    Example:
        >>> show_interval(Finding("turns", 0.5, "share", "", low=0.2, high=0.81))
        '50% (20% to 81%)'
        >>> show_interval(Finding("energy", None, "joules per token", "No counter is readable here."))
        'not measured'
    """
    if finding.value is None:
        return "not measured"

    def write(value: float) -> str:
        return f"{value:.0%}" if finding.unit == "share" else f"{value:,.4g}"

    figure = write(finding.value) if finding.unit == "share" else f"{write(finding.value)} {finding.unit}"
    if finding.low is None or finding.high is None:
        return figure
    return f"{figure} ({write(finding.low)} to {write(finding.high)})"


@dataclass(frozen=True)
class Mean:
    """A mean of independent values with its interval.

    Attributes:
        value: The mean.
        low: Lower end of its interval of 95%.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def mean_difference(one: Sequence[float], two: Sequence[float]) -> Mean:
    """Return how much larger the mean of ``two`` is than that of ``one``, two samples that are not paired.

    The interval is Welch's, with Student's t at the degrees of freedom of Welch and Satterthwaite. Source: Welch 1947,
    doi:10.1093/biomet/34.1-2.28.

    Raises:
        InvalidInput: A sample has fewer than two values.

    Example:
        >>> found = mean_difference([1, 2, 3], [4, 5, 6])
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (3.0, 0.73, 5.27)
    """
    if min(len(one), len(two)) < 2:
        raise InvalidInput(f"{len(one)} and {len(two)} values have no interval.", remedy="Take at least 2 of each.")
    spreads = [statistics.variance(values) / len(values) for values in (one, two)]
    total = sum(spreads)
    value = statistics.fmean(two) - statistics.fmean(one)
    if not total:
        return Mean(value, value, value)
    parts = zip(spreads, (one, two), strict=True)
    freedom = total**2 / sum(spread**2 / (len(values) - 1) for spread, values in parts)
    wide = student(freedom) * math.sqrt(total)
    return Mean(value, value - wide, value + wide)


def student(freedom: float) -> float:
    """Return how many standard errors hold 95% of Student's t distribution on either side.

    Found by bisection on the distribution's own integral, since its asymptotic series fails below 3 degrees of freedom.

    Args:
        freedom: Degrees of freedom, at least 1.

    Example:
        >>> round(student(4), 3), round(student(1), 2), round(student(1e6), 3)
        (2.776, 12.71, 1.96)
    """
    if freedom > _NORMAL:
        return Z
    low, high = 0.0, 20.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 0.95 else (low, middle)
    return high


def _within(limit: float, freedom: float) -> float:
    """Return the probability that Student's t lies within ± limit, by Simpson's rule over its angle arctan(t/√f)."""
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    end = math.atan(limit / math.sqrt(freedom))
    step = end / _STEPS
    inner = math.fsum((4 if place % 2 else 2) * math.cos(place * step) ** (freedom - 1) for place in range(1, _STEPS))
    return float(2 * scale * step / 3 * (1 + inner + math.cos(end) ** (freedom - 1)))
