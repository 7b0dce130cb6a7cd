import json

import pytest

from smidgen.data.curation import Curation, CurationReport, curate, describe
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput, ReferenceNotFound

LONG = "The fox ran over the hill, past the old mill and into the wood where the owls sleep all day long in peace."


def curated(*rows: Row) -> tuple[list[Row], CurationReport]:
    corpus, report = curate(Corpus("sample", rows))
    assert corpus.warnings == report.sentences()
    return list(corpus.rows), report


def test_exact_duplicates_go_whatever_their_punctuation() -> None:
    rows, report = curated(Row("A quick fox."), Row("a quick  fox"), Row("A quick dog."))
    assert [row.text for row in rows] == ["A quick fox.", "A quick dog."]
    assert report == CurationReport(exact=1)


def test_near_duplicates_go_and_different_texts_stay() -> None:
    longer = " ".join(f"word{number}" for number in range(200))
    changed = longer.replace("word100", "other")
    different = " ".join(f"word{number}" for number in range(199, -1, -1))
    rows, report = curated(Row(longer), Row(changed), Row(different))
    assert [row.text for row in rows] == [longer, different]
    assert report == CurationReport(near=1)


def test_rows_that_differ_in_label_or_answer_stay() -> None:
    longer = LONG * 5
    kept = [
        Row(longer, label="a"),
        Row(longer, label="b"),
        Row(prompt=longer, completion="4"),
        Row(prompt=longer, completion="5"),
    ]
    assert curated(*kept) == (kept, CurationReport())


def test_short_texts_go_but_not_short_labelled_rows_or_answers() -> None:
    rows, report = curated(Row("Hm."), Row("Great!", label="good"), Row(prompt="2+2", completion="4"), Row(LONG))
    assert [row.plain for row in rows] == ["Great!", "2+2\n4", LONG]
    assert report == CurationReport(short=1)


def test_stuttering_lines_become_one() -> None:
    rows, report = curated(Row("start of page\n" + "Page header\n" * 4 + "two\ntwo\nend of page"))
    assert rows[0].text == "start of page\nPage header\ntwo\ntwo\nend of page"
    assert report == CurationReport(lines=3)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="No row of sample remains"):
        curated(Row("a"), Row("b"))
    with pytest.raises(InvalidInput, match="similarity"):
        curate(Corpus("sample", (Row(LONG),)), similarity=0)


def text_of(seed: int, words: int = 60) -> str:
    return " ".join(f"{chr(97 + number % 26)}{number * seed}" for number in range(words))


def test_rows_that_are_to_be_measured_on_are_refused() -> None:
    own, held = [Row(text_of(seed)) for seed in range(1, 5)], Corpus("exam", (Row(text_of(3)), Row(text_of(9))))
    corpus, report = curate(Corpus("sample", tuple(own)), held_out=held)
    assert list(corpus.rows) == [own[0], own[1], own[3]] and report == CurationReport(leaked=1)
    assert report.sentences() == ("1 row that stands in the held-out text was removed.",)


def test_long_and_repetitive_rows_go_where_it_is_asked() -> None:
    rows = (
        Row(text_of(1, 300)),
        Row("Buy it now, buy it today. " * 20),
        Row(text_of(2)),
        Row("same line\nother\n" * 40),
    )
    kept, report = curate(Corpus("sample", rows), curation=Curation(maximum_words=200))
    assert [row.text for row in kept.rows] == [rows[2].text]
    assert report == CurationReport(long=1, repetitive=2) and report.rows == 3
    assert len(curate(Corpus("sample", rows), curation=Curation(repetition=False))[0].rows) == 4


def test_other_languages_go_where_it_is_asked() -> None:
    german = "Der Fuchs lief über den Hügel, an der alten Mühle vorbei und in den Wald, wo die Eulen am Tag schlafen."
    rows = (Row(LONG), Row(german), Row("Kurzer Satz auf Deutsch"), Row(prompt=german, completion="ja"))
    kept, report = curate(Corpus("sample", rows), curation=Curation(languages=("en",)))
    assert list(kept.rows) == [rows[0], rows[2], rows[3]] and report == CurationReport(foreign=1)
    with pytest.raises(ReferenceNotFound, match="xx"):
        Curation(languages=("xx",))


def test_the_estimate_follows_the_exact_similarity() -> None:
    base = [f"w{number}" for number in range(400)]
    for changed, alike in ((2, True), (5, True), (40, False)):
        other = list(base)
        for place in range(changed):
            other[place * (400 // changed)] = f"x{place}"
        _, report = curated(Row(" ".join(base)), Row(" ".join(other)))
        assert (report.near == 1) == alike, changed


def test_a_datasheet_says_what_was_kept_and_why() -> None:
    rows = (
        Row("a fine first row", origin="a.txt, line 1"),
        Row("A fine first row!", origin="a.txt, line 2"),
        Row("no"),
    )
    corpus, sheet = describe(Corpus("sample", rows, "CC0-1.0"), Curation(), held_out=Corpus("exam", (Row(LONG),)))
    assert sheet.rows == (3, 1) and sheet.sha256 == corpus.sha256
    assert sheet.examples == {"exact": "a.txt, line 2: A fine first row!", "short": "no"}
    assert json.loads(json.dumps(sheet.to_dict()))["removed"]["exact"] == 1
    text = sheet.to_markdown()
    for words in (
        "CC0-1.0",
        corpus.sha256,
        "Rows: 1 of 3 kept",
        "exam",
        "| exact | 1 | a.txt, line 2: A fine first row! |",
    ):
        assert words in text


@pytest.mark.parametrize("options", [{"minimum_words": 5, "maximum_words": 4}, {"similarity": 1.2}])
def test_wrong_options_are_said(options) -> None:
    with pytest.raises(InvalidInput):
        Curation(**options)
