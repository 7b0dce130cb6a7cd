"""The written plan only grows, reads itself back, and knows whose it is."""

from __future__ import annotations

import json
import time

import pytest

from smidgen.errors import DamagedFile, InvalidInput
from smidgen.recipe.journal import Journal

WHO = {"source": "tiny", "budget": {"fit": 80, "within": None}, "seed": 0}


def test_decisions_are_made_once_and_read_back(tmp_path):
    path = tmp_path / "plan.json"
    journal = Journal(path, WHO)
    assert not path.exists() and not journal.known("steps")
    value = {"shape": [1, 2], "share": 0.1, "none": None}
    assert journal.decide("steps", lambda: value, because="time left") == value
    assert journal.decide("steps", lambda: pytest.fail("decided twice")) == value
    again = Journal(path, WHO)
    assert again.known("steps") and again.decide("steps", lambda: pytest.fail("decided twice")) == value
    assert again.decide("falsy", lambda: 0) == 0
    assert Journal(path, WHO).decide("falsy", lambda: pytest.fail("zero is a decision")) == 0
    assert [entry["name"] for entry in again.entries] == ["steps", "falsy"]
    assert again.entries[0]["because"] == "time left"


def test_the_first_run_sees_what_later_ones_read(tmp_path):
    # Tuples become lists and keys become strings in the file: the run that decides must not see anything else.
    decided = Journal(tmp_path / "plan.json", WHO).decide("pair", lambda: {1: (2, 3)})
    assert decided == {"1": [2, 3]} == Journal(tmp_path / "plan.json", WHO).decide("pair", lambda: None)


def test_the_file_only_grows(tmp_path):
    path, journal = tmp_path / "plan.json", Journal(tmp_path / "plan.json", WHO)
    earlier: list[dict[str, object]] = []
    for number in range(5):
        journal.decide(f"step {number}", lambda number=number: number)
        entries = json.loads(path.read_text())["entries"]
        assert entries[:-1] == earlier and len(entries) == number + 1
        earlier = entries
    assert [entry["at"] for entry in earlier] == sorted(entry["at"] for entry in earlier)


def test_a_decision_that_fails_is_not_written(tmp_path):
    journal = Journal(tmp_path / "plan.json", WHO)
    journal.decide("first", lambda: 1)
    before = (tmp_path / "plan.json").read_bytes()
    with pytest.raises(ZeroDivisionError):
        journal.decide("second", lambda: 1 / 0)
    assert (tmp_path / "plan.json").read_bytes() == before and not journal.known("second")
    assert journal.decide("second", lambda: 2) == 2


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (WHO | {"seed": 1}, "seed"),
        (WHO | {"budget": {"fit": 81, "within": None}}, "budget"),
        ({"source": "tiny", "seed": 0}, "budget"),
        (WHO | {"source": "big", "threads": 2}, "source, threads"),
    ],
)
def test_another_run_s_plan_is_refused_naming_what_differs(tmp_path, other, named):
    folder = tmp_path / "out" / ".smidgen"
    folder.mkdir(parents=True)
    Journal(folder / "plan.json", WHO).decide("a", lambda: 1)
    with pytest.raises(InvalidInput, match=f"differs in {named}") as caught:
        Journal(folder / "plan.json", other)
    assert str(tmp_path / "out") in str(caught.value) and "--fresh" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"identity": {}, "entries": 3}',
        b'{"format": 1, "identity": {}, "entries": [{}]}',
        b'{"format": 1, "identity": {}, "entries": [{"name": "a", "at": 1}]}',
        b'{"format": 1, "identity": 3, "entries": []}',
    ],
)
def test_a_damaged_plan_is_named(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"plan\.json"):
        Journal(path, {})


def test_a_plan_of_another_format_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    Journal(path, {}).decide("a", lambda: 1)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(DamagedFile, match="2"):
        Journal(path, {})


def test_time_adds_up_over_runs(tmp_path):
    first = Journal(tmp_path / "plan.json", WHO)
    time.sleep(0.05)
    first.decide("a", lambda: 1)
    worked = first.entries[-1]["at"]
    assert worked >= 0.05
    time.sleep(0.1)  # between two runs nothing is worked
    second = Journal(tmp_path / "plan.json", WHO)
    assert worked <= second.elapsed < worked + 0.09
    time.sleep(0.03)
    second.decide("b", lambda: 2)
    assert Journal(tmp_path / "plan.json", WHO).elapsed >= worked + 0.03
