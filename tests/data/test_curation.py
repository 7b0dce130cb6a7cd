import pytest

from smidgen.data.curation import CurationReport, curate
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput

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
