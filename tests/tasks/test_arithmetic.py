from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import InvalidInput
from smidgen.tasks.arithmetic import evaluate, expression_before, plain

NUMBERS = st.integers(0, 10**6).map(str) | st.decimals(0, 1000, places=2).map(str)
SUMS = st.recursive(
    NUMBERS,
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=6,
)


def exact(text):
    """The same by Python's own rules, on exact numbers."""
    import re

    return eval(re.sub(r"\d+(?:\.\d+)?", lambda found: f"Fraction('{found[0]}')", text), {"Fraction": Fraction})


@given(SUMS)
@settings(max_examples=200, deadline=None)
def test_values_are_exact(text):
    try:
        wanted = exact(text)
    except ZeroDivisionError:
        with pytest.raises(InvalidInput):
            evaluate(text)
        return
    assert evaluate(text) == wanted


@pytest.mark.parametrize(
    ("text", "value"),
    [("2^10", 1024), ("√49 + 1", 8), ("$1,000 - $250", 750), ("3 x 4", 12), ("50%", Fraction(1, 2)), ("-3 − 4", -7)],
)
def test_people_s_signs_are_understood(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize("text", ["", "x", "1/0", "9^9^9", "2**99999", "__import__('os')", "1" * 300, "√2", "(", "1 2"])
def test_what_is_no_sum_is_refused(text):
    with pytest.raises(InvalidInput):
        evaluate(text)


def test_values_are_written_as_people_do():
    assert [plain(Fraction(value)) for value in ("7", "1/3", "-1/8", "200/3")] == ["7", "0.3333", "-0.125", "66.6667"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Step 1: 3 bags * 7 apples", "3 * 7"),
        ("Total cost: $12.50 * 4", "$12.50 * 4"),
        ("In 2020 it was 5 + 6", "5 + 6"),
        ("x", None),
        ("Let y", None),
        ("the answer", None),
        ("7", None),
    ],
)
def test_the_sum_before_an_equals_sign_is_found(text, found):
    assert expression_before(text) == found
