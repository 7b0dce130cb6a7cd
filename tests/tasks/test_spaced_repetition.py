import datetime

import pytest

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound
from smidgen.tasks.spaced_repetition import LEAST_EASE, Card, Deck

DAY = datetime.date(2026, 1, 1)


def test_intervals_grow_as_sm_2_says():
    card, intervals = Card("brisk"), []
    for _ in range(5):
        card = card.graded(4, DAY)
        intervals.append(card.interval)
    assert intervals == [1, 6, 15, 38, 95] and card.ease == pytest.approx(2.5)


def test_what_was_forgotten_begins_anew_and_grows_slower():
    card = Card("brisk").graded(5, DAY).graded(5, DAY).graded(1, DAY)
    assert (card.interval, card.repetitions) == (1, 0)
    for _ in range(20):
        card = card.graded(0, DAY)
    assert card.ease == LEAST_EASE


def test_a_deck_is_kept_and_asks_what_is_due(tmp_path):
    deck = Deck(tmp_path / "words.json")
    assert deck.add([Card("brisk"), Card("stale")], DAY) == 2
    assert deck.add([Card("brisk")], DAY) == 0
    deck.grade({"brisk": 4}, DAY)
    deck.save()
    again = Deck(tmp_path / "words.json")
    assert [card.word for card in again.due(DAY)] == ["stale"]
    assert {card.word for card in again.due(DAY + datetime.timedelta(days=1))} == {"brisk", "stale"}


def test_bad_grades_words_and_files_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="grade 6"):
        Card("brisk").graded(6, DAY)
    with pytest.raises(ReferenceNotFound, match="brisk"):
        deck = Deck(tmp_path / "words.json")
        deck.add([Card("brisk")], DAY)
        deck.grade({"brisc": 4}, DAY)
    (tmp_path / "bad.json").write_text('{"cards": [{"no": 1}]}')
    with pytest.raises(DamagedFile, match="no deck"):
        Deck(tmp_path / "bad.json")
