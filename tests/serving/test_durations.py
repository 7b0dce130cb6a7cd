"""Durations in Go's notation."""

from __future__ import annotations

import math

import pytest

from smidgen.errors import InvalidInput
from smidgen.serving.durations import seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("0", 0.0),
        ("10", 10.0),
        (0, 0.0),
        (2.5, 2.5),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1m", math.inf),
        ("-0", 0.0),
    ],
)
def test_a_duration_is_read(value: object, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize("value", ["", "5 minutes", "m", "1h-5m", "1e9", "5mm", None, True, [], math.nan, "5m "[::-1]])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="invalid duration"):
        seconds(value)
