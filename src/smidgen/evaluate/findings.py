"""What measuring says about a model in one number, its interval and one plain sentence: the form of every finding."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from smidgen.errors import InvalidInput

Z = 1.959963984540054
"""Standard deviations on either side of a mean that hold 95% of a normal distribution."""


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
    return max(0.0, (middle - wide) / whole), min(1.0, (middle + wide) / whole)


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
