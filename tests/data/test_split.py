import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.data import builtin
from smidgen.data.rows import Corpus, Row
from smidgen.data.split import ALLOWED_OVERLAP, overlap, split, without_overlap
from smidgen.errors import InvalidInput


def nonsense(generator: random.Random, count: int) -> str:
    return " ".join("".join(generator.choices("abcdefgh", k=5)) for _ in range(count))


def corpus_of(rows: int, words: int = 40, seed: int = 0) -> Corpus:
    generator = random.Random(seed)
    return Corpus("sample", tuple(Row(nonsense(generator, words)) for _ in range(rows)))


@settings(max_examples=25)
@given(rows=st.integers(20, 60), share=st.floats(0.05, 0.5), seed=st.integers(0, 9))
def test_rows_are_divided_without_loss_or_overlap(rows: int, share: float, seed: int) -> None:
    corpus = corpus_of(rows, seed=seed)
    training, held_out = split(corpus, held_out_share=share, seed=seed, minimum=500)
    assert sorted(row.plain for row in training.rows + held_out.rows) == sorted(row.plain for row in corpus.rows)
    assert overlap(held_out, training) == 0
    wanted = max(share * corpus.characters, 500)
    assert wanted <= held_out.characters <= wanted + 240 or held_out.characters <= corpus.characters / 2 + 240


def test_the_division_is_repeatable_and_follows_the_seed() -> None:
    corpus = corpus_of(60)
    assert split(corpus) == split(corpus)
    assert split(corpus)[1].sha256 != split(corpus, seed=1)[1].sha256
    assert split(corpus)[1].name == "sample (held-out part)"


@settings(max_examples=15)
@given(words=st.integers(1500, 4000), seed=st.integers(0, 9))
def test_one_long_text_is_divided_by_section(words: int, seed: int) -> None:
    text = nonsense(random.Random(seed), words).replace(" a", "\n\na")
    corpus = Corpus("book", (Row(text, origin="book.txt"),))
    training, held_out = split(corpus, seed=seed)
    pieces = training.rows + held_out.rows
    assert all(row.plain in text for row in pieces)
    assert sum(len(row.plain) for row in pieces) == len(text)
    assert 2_000 <= held_out.characters < 0.6 * len(text)
    assert overlap(held_out, training) == 0


def test_equal_rows_fall_on_one_side() -> None:
    corpus = corpus_of(40)
    doubled = Corpus("doubled", corpus.rows + corpus.rows)
    training, held_out = split(doubled)
    assert not {row.plain for row in training.rows} & {row.plain for row in held_out.rows}
    assert len(training.rows) + len(held_out.rows) == 80


def test_held_out_rows_that_repeat_training_are_removed() -> None:
    rows = corpus_of(60).rows
    copies = tuple(Row(row.plain + " altered") for row in rows[:30])
    training, held_out = split(Corpus("copied", rows + copies), held_out_share=0.3)
    assert overlap(held_out, training) <= ALLOWED_OVERLAP
    assert any("repeated training rows" in warning for warning in held_out.warnings)


def test_the_wording_of_a_prompt_does_not_count_as_repetition() -> None:
    instruction = "Say whether the customer who wrote the following message to our service desk is content or angry: "
    corpus = Corpus(
        "asked", tuple(Row(prompt=instruction + row.plain, completion="angry") for row in corpus_of(100, 15).rows)
    )
    training, held_out = split(corpus)
    assert len(training.rows) + len(held_out.rows) == 100
    assert len(held_out.rows) >= 10


def test_too_small_and_too_repetitive_corpora_are_explained() -> None:
    with pytest.raises(InvalidInput, match=r"tiny is too small.*15 characters, 4,000 \(about 1,000 tokens\) are"):
        split(Corpus("tiny", (Row("a fox and a dog"),)))
    sentence = nonsense(random.Random(0), 60) + "\n\n"
    with pytest.raises(InvalidInput, match="repeats itself too much"):
        split(Corpus("parrot", (Row(sentence * 40),)))
    with pytest.raises(InvalidInput, match="between 0 and 1, not 1"):
        split(corpus_of(60), held_out_share=1)


def test_overlap_counts_shared_passages() -> None:
    half = builtin.calibration().rows[0]
    other = Row(nonsense(random.Random(0), len(half.plain.split())))
    both = Corpus("both", (half, other))
    assert 0.3 < overlap(both, Corpus("half", (half,))) < 0.7
    assert overlap(Corpus("half", (half,)), both) == 1
    assert without_overlap(both, Corpus("half", (half,))).rows == (other,)
