"""Reports of long work, and how a report stops it."""

from __future__ import annotations

import pytest

from smidgen.progress import Event, silent, track


def test_every_item_is_reported_after_its_work() -> None:
    seen: list[Event] = []
    for number, letter in enumerate(track("abc", "spelling", seen.append, unit="letters")):
        assert len(seen) == number + 1
        assert letter == "abc"[number]
    assert [(event.done, event.total) for event in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {(event.stage, event.unit, event.note) for event in seen} == {("spelling", "letters", "")}


def test_a_stream_has_no_total_unless_it_is_told() -> None:
    seen: list[Event] = []
    assert list(track(iter("ab"), "spelling", seen.append)) == ["a", "b"]
    assert {event.total for event in seen} == {None}
    assert list(track(iter("ab"), "spelling", seen.append, total=2)) == ["a", "b"]
    assert seen[-1].total == 2


def test_a_report_that_raises_stops_the_work() -> None:
    done: list[str] = []

    def stop(event: Event) -> None:
        if event.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for letter in track("abc", "spelling", stop):
            done.append(letter)
    assert done == ["a"]


def test_silence_is_no_report() -> None:
    assert list(track([], "nothing", silent)) == []
