"""What every kind of value, every check and every reader of documents does."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen import registry
from smidgen.documents.checks import FOLDER, build
from smidgen.documents.habits import Habits
from smidgen.documents.kinds import KINDS
from smidgen.documents.kinds import build as build_kind
from smidgen.documents.readers import READERS
from smidgen.errors import DamagedFile

KIND_NAMES, CHECK_NAMES, READER_NAMES = (registry.names(folder) for folder in (KINDS, FOLDER, READERS))
TEXT = (
    "Amber Foods Ltd, 12 Mill Road, LS1 4AP Leeds. Total: EUR 1.234,50 on 14/03/2024 at 9:05, Tel. +49 6051 916 44 10, "
    "a@example.org, www.example.org, IBAN NL50INGB0683251309, VAT NL810433941B01, yes, red, 12 pieces"
)


def test_how_many_there_are():
    assert (len(KIND_NAMES), len(CHECK_NAMES), len(READER_NAMES)) == (17, 3, 3)


@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_kind_finds_its_values_within_a_text(name):
    kind = build_kind(name, **({"options": ("red",)} if name == "choice" else {}))
    assert dataclasses.is_dataclass(kind) and type(kind).__dataclass_params__.frozen
    found = [span for part in TEXT.split(", ") for span in kind.spans(part, Habits())]
    assert found or name == "person"
    assert list(kind.spans("", Habits())) == []


@pytest.mark.parametrize("name", KIND_NAMES)
@given(text=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=60))
@settings(max_examples=25, deadline=None)
def test_a_kind_s_spans_lie_within_any_text(name, text):
    kind = build_kind(name, **({"options": ("red",)} if name == "choice" else {}))
    for habits in (Habits(), Habits(",", "MDY", "US")):
        for span in kind.spans(text, habits):
            assert 0 <= span.begin < span.end <= len(text)
            assert 0 < span.quality <= 1 and span.value is not None


@pytest.mark.parametrize("name", CHECK_NAMES)
def test_a_check_says_nothing_where_values_are_missing(name):
    entry = {"check": name, "of": ["a", "b"]} | ({} if name == "order" else {"equals": "c"})
    check = build(entry)
    assert set(check.paths) >= {"a", "b"}
    assert check.fault({}) is None and check.fault({"a": 1.0}) is None


@pytest.mark.parametrize("name", READER_NAMES)
def test_a_reader_refuses_what_only_begins_like_its_files(name):
    reader = registry.find(READERS, name)()
    assert reader.suffixes and reader.beginnings
    for place, sign in reader.beginnings:
        with pytest.raises(DamagedFile):
            reader.open(bytes(place) + sign + b"\0" * 30, "bad")
