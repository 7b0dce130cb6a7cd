"""The form of findings: intervals, and plain data there and back."""

from __future__ import annotations

import json

import pytest

from smidgen.errors import InvalidInput
from smidgen.evaluate.findings import Finding, Point, mean_difference, share_interval, show_interval, student


def test_a_finding_survives_json_with_its_curve() -> None:
    curve = (Point(1024, 0.9, 0.7, 1.0, 20), Point("typos", 0.5))
    found = Finding(
        "long_range", 0.7, "share", "Said.", low=0.5, high=0.8, items=20, weak=True, axis="tokens", points=curve
    )
    assert Finding.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("data", [{}, {"name": "x"}, {"points": [3]}, {"points": [{"where": 1}]}])
def test_what_is_no_finding_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="no finding"):
        Finding.from_dict(data)


def test_the_interval_holds_the_true_share_as_often_as_it_says() -> None:
    import numpy

    counts = numpy.random.default_rng(5).binomial(30, 0.85, 4000)
    held = sum(low <= 0.85 <= high for low, high in (share_interval(int(count), 30) for count in counts))
    assert 0.93 < held / 4000 < 0.97


@pytest.mark.parametrize(("right", "items"), [(0, 5), (5, 5)])
def test_the_interval_of_nothing_and_of_all_is_not_a_single_point(right: int, items: int) -> None:
    low, high = share_interval(right, items)
    assert 0 <= low <= right / items <= high <= 1
    assert high - low > 0.3


@pytest.mark.parametrize(("right", "items"), [(1, 0), (0, 0), (3, 2), (-1, 2)])
def test_a_share_that_cannot_be_is_refused(right: int, items: int) -> None:
    with pytest.raises(InvalidInput, match="no share"):
        share_interval(right, items)


def test_figures_are_shown_with_their_unit() -> None:
    assert show_interval(Finding("repetition", 0.0, "share", "", low=0.0, high=0.2)) == "0% (0% to 20%)"
    assert show_interval(Finding("gap", 0.0312, "bits per byte", "")) == "0.0312 bits per byte"


@pytest.mark.parametrize(
    ("freedom", "known"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (7, 2.3646), (14, 2.1448), (120, 1.9799)]
)
def test_student_s_t_is_that_of_the_tables(freedom: int, known: float) -> None:
    assert student(freedom) == pytest.approx(known, abs=1e-4)


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    import numpy

    chance, held = numpy.random.default_rng(3), 0
    for _ in range(300):
        found = mean_difference(chance.normal(0, 1, 5).tolist(), chance.normal(2, 3, 8).tolist())
        held += found.low <= 2 <= found.high
    assert 0.925 < held / 300 < 0.985


def test_equal_values_have_no_width_and_single_ones_no_interval() -> None:
    assert mean_difference([1.0, 1.0], [3.0, 3.0]).low == 2.0
    with pytest.raises(InvalidInput, match="at least 2"):
        mean_difference([1.0], [2.0, 3.0])
