import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.tasks.passages import passages, sentences, shortened, spans, within_words, word_count
from smidgen.tasks.task import finished

TEXTS = st.text(alphabet="ab .!?\n,…'\"é", max_size=200)


class Words:
    """Counts words for tokens."""

    def count(self, text):
        return len(text.split())


def kept(pieces, words):
    working = within_words(pieces, words)
    shown = []
    while True:
        try:
            shown.append(next(working))
        except StopIteration as end:
            return "".join(shown), end.value


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_sentences_lose_nothing_but_white_space(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())
    places = spans(text)
    assert all(left < right for left, right in places) and places == sorted(places)


@given(TEXTS, st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_passages_fit_and_lose_no_word(text, tokens):
    found = passages(text, tokens, Words())
    assert all(word_count(part) <= max(1, tokens) for part in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@given(st.lists(TEXTS, max_size=6), st.integers(3, 20))
@settings(max_examples=150, deadline=None)
def test_what_is_written_never_passes_its_length(pieces, words):
    shown, text = kept(pieces, words)
    assert shown == text
    assert word_count(text) <= words


def test_a_length_is_kept_by_whole_sentences():
    assert kept(["One two three. ", "Four five six seven."], 5)[1] == "One two three."
    assert kept(["One two three. ", "Four five"], 5)[1] == "One two three."
    assert kept(["One two three four five six."], 4)[1] == "One two three four…"
    assert kept(["One two"], 4)[1] == "One two"


def test_writing_stops_as_soon_as_the_length_is_reached():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield "word. "

    assert finished(within_words(endless(), 6)).count("word.") == 6
    assert len(taken) < 10


def test_a_text_is_shortened_to_its_beginning(scripted):
    model = scripted()
    assert shortened("one two three four", 2, model) == "one two"
    assert shortened("one two", 5, model) == "one two"


@pytest.mark.parametrize("text", ["", " \n "])
def test_nothing_has_no_passages(scripted, text):
    assert passages(text, 5, scripted()) == []
