"""What the model may change: the order of candidates that the layout supports, and nothing else."""

import pytest

from smidgen.documents.choosing import ModelChooser, opened
from smidgen.documents.extract import extract
from smidgen.documents.habits import Habits
from smidgen.documents.layout import lay_out
from smidgen.documents.ranking import Ranker
from smidgen.documents.reading import File, PageReader
from smidgen.documents.schema_reading import read_schema
from smidgen.documents.vocabulary import plain_word

LINES = ("Blood group: AB", "Attending doctor: Smith", "Occupation: Welder", "Reg. plate: K22")


@pytest.fixture(scope="module")
def chooser(smollm2_gguf):
    made = ModelChooser("smollm2:135m", smollm2_gguf, 1)
    yield made
    made.close()


@pytest.fixture
def ranked(pdf):
    """Every answer on a page as a candidate of one field, all of them equally plausible."""
    from dataclasses import replace

    schema = {
        "properties": {"physician": {}, "occupation": {}, "blood group": {}, "attending doctor": {}, "reg plate": {}}
    }
    wanted = read_schema(schema)
    content = pdf([[(40, 40 + 30 * row, line) for row, line in enumerate(LINES)]])
    [page] = PageReader().pages(File("made.pdf", content))
    found = Ranker(wanted.fields).rank(lay_out(page), Habits())
    pool = [replace(each[0], logit=0.5) for path, each in found.items() if each and path != "physician"]
    assert len(pool) == 4
    return wanted.fields[0], pool


def test_the_model_puts_first_what_the_field_s_name_makes_likelier(chooser, ranked):
    field, pool = ranked
    [again] = chooser.reconsider([field], {"physician": pool}).values()
    assert again[0].candidate.value == "Smith" and again[0].logit > 0.5
    assert {id(each.candidate) for each in again} == {id(each.candidate) for each in pool}
    assert all(abs(each.logit - 0.5) <= 1.6 for each in again)


def test_the_model_is_not_asked_where_the_layout_decides(ranked):
    from dataclasses import replace
    from pathlib import Path

    field, pool = ranked
    sure = [replace(pool[0], logit=4.0), *(replace(each, logit=-1.0) for each in pool[1:])]
    never = ModelChooser("nowhere", Path("/nowhere.gguf"), 1)
    assert never.reconsider([field], {"physician": sure, "other": []}) == {"physician": sure}


def test_what_the_model_writes_is_grounded_only_where_the_page_says_it(pdf, smollm2_gguf):
    schema = {"properties": {"gist": {"x-kind": "free", "type": "string", "maxLength": 30}}}
    content = pdf([[(40, 40, "The meeting in Leeds is on Monday")]])
    found = extract(File("made.pdf", content), schema, model=str(smollm2_gguf), threads=1).fields["gist"]
    said = plain_word("The meeting in Leeds is on Monday")
    assert found.status in ("grounded", "ungrounded", "missing") and len(found.value or "") <= 30
    assert found.status != "grounded" or plain_word(found.value).strip(".") in said
    assert (found.status == "grounded") == bool(found.boxes)
    empty = extract(File("made.pdf", pdf([[]])), schema, model=str(smollm2_gguf), threads=1).fields["gist"]
    assert (empty.value, empty.status) == (None, "missing")


def test_no_model_may_be_asked():
    with opened(None) as nobody:
        assert nobody is None
