"""Schemas as people write them; each fault is told in words, and all of them together."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from smidgen.documents.schema import load_schema, preset, presets
from smidgen.documents.schema_reading import read_schema
from smidgen.errors import InvalidInput, RecipeError, ReferenceNotFound


def properties(**each):
    return {"type": "object", "properties": each}


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_read(name):
    wanted = read_schema(preset(name))
    assert wanted.fields and all(field.kind != "text" or field.concept for field in wanted.fields)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "nothing to look for"),
        (properties(a={"type": "text"}), "type 'text'"),
        (properties(a={"not": {"type": "string"}}), "not supported: not"),
        (properties(a={"if": {}, "then": {}}), "not supported: if, then"),
        (properties(a={"minimum": 5, "maximum": 1}), "minimum 5 is above maximum 1"),
        (properties(a={"type": "string", "minLength": 9, "maxLength": 3}), "contradicts itself"),
        (properties(a={"type": "integer", "enum": ["one"]}), "no value of its enum"),
        (properties(a={"enum": []}), "no value in its enum"),
        (properties(a={"pattern": "("}), "pattern that cannot be read"),
        (properties(a={"allOf": [{"type": "string"}, {"type": "number"}]}), "contradicts itself"),
        (properties(a={"$ref": "#/$defs/b"}), "which is not there"),
        (properties(a={"$ref": "http://example.org/s.json"}), "only references within"),
        (properties(a={"$ref": "#"}), "refers to itself"),
        ({"$defs": {"node": properties(child={"$ref": "#/$defs/node"})}, "$ref": "#/$defs/node"}, "refers to itself"),
        (properties(a={"anyOf": [{"type": "object"}, {"type": "string"}]}), "several alternatives"),
        (properties(a={"type": "array", "items": {"type": "string"}}), "something else than objects"),
        (properties(a={"x-kind": "colour"}), "no x-kind 'colour'"),
        (properties(a={"x-kind": ["date"]}), "no x-kind"),
        (properties(a={"maxLength": "ten"}), "properties/a/maxLength: 'ten' is not of type 'integer'"),
        (properties(a={"anyOf": "b"}), "properties/a/anyOf"),
        ({"properties": ["a"]}, "properties: "),
        (properties(a={"type": ["string", "text"]}), "type 'text'"),
        (properties(a={"type": {"b": 1}}), "has the type"),
        ({**properties(a={}), "required": ["b"]}, "requires what it does not describe: b"),
        ({**properties(a={}), "x-checks": [{"check": "sum", "of": ["a"], "equals": "b"}]}, "does not have: b"),
        ({**properties(a={}), "x-checks": [{"check": "summ"}]}, "no check 'summ'"),
        ({**properties(a={}), "x-checks": [{"check": "sum", "of": ["a"]}]}, "is not whole"),
        (properties(**{f"f{number}": {} for number in range(300)}), "more than 200 fields"),
    ],
)
def test_what_cannot_be_kept_is_told(schema, words):
    with pytest.raises(RecipeError, match=words):
        read_schema(schema)


def test_all_faults_are_told_together():
    with pytest.raises(RecipeError) as caught:
        read_schema(properties(a={"type": "text"}, b={"not": {}}))
    assert len(caught.value.problems) == 2


def test_deep_nesting_is_refused_without_a_crash():
    schema = {"type": "string"}
    for _ in range(400):
        schema = properties(a=schema)
    with pytest.raises(RecipeError, match="nested"):
        read_schema(schema)


def test_what_pydantic_writes_can_be_read():
    class Line(BaseModel):
        name: str
        price: float | None = None

    class Bill(BaseModel):
        total: float | None
        lines: list[Line]

    wanted = read_schema(load_schema(Bill))
    assert [(field.path, field.kind, field.type) for field in wanted.fields] == [("total", "amount", "number")]
    assert [column.path for column in wanted.tables[0].columns] == ["name", "price"]


def test_kinds_come_from_what_is_said_then_the_format_then_the_name():
    wanted = read_schema(
        properties(
            a={"x-kind": "phone"},
            when={"format": "date"},
            total={"type": "string"},
            invoiceDate={},
            odd={},
            n={"type": "integer"},
        )
    )
    assert [field.kind for field in wanted.fields] == ["phone", "date", "amount", "date", "text", "number"]


def test_a_schema_is_a_file_a_preset_or_a_class(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(properties(total={"type": "number"})))
    assert load_schema(path)["properties"] and load_schema("receipt")["title"] == "Receipt"
    assert load_schema("pydantic:smidgen.serving.dialects.rerank.Fields")["properties"]["query"]
    path.write_text("{")
    with pytest.raises(InvalidInput, match="no JSON"):
        load_schema(path)
    path.write_text("[]")
    with pytest.raises(InvalidInput, match="holds no object"):
        load_schema(path)
    for name in ("nowhere.json", "pydantic:no.such.Class", "pydantic:json.Nothing"):
        with pytest.raises(ReferenceNotFound):
            load_schema(name)
    with pytest.raises(InvalidInput, match="no model of pydantic"):
        load_schema("pydantic:json.JSONDecoder")


def test_a_schema_that_grows_without_end_is_refused_at_once():
    grows = {f"d{depth}": properties(**{f"p{each}": {"$ref": f"#/$defs/d{depth + 1}"} for each in range(12)})
             for depth in range(8)}  # fmt: skip
    with pytest.raises(RecipeError, match="more than 2,000 parts"):
        read_schema({"$defs": {**grows, "d8": {"type": "string"}}, "$ref": "#/$defs/d0"})


def test_types_that_may_be_null_may_be_listed():
    schema = properties(ward={"type": ["string", "null"], "enum": ["north", "south", None]}, n={"enum": [1, 2]})
    assert [(field.kind, field.type) for field in read_schema(schema).fields] == [
        ("choice", "string"),
        ("choice", "number"),
    ]


def test_references_and_unions_are_followed_through_each_other():
    schema = {
        "$defs": {"sum": {"anyOf": [{"$ref": "#/$defs/plain"}, {"type": "null"}]}, "plain": {"type": "number"}},
        **properties(total={"allOf": [{"$ref": "#/$defs/sum"}], "title": "Grand total"}),
    }
    (field,) = read_schema(schema).fields
    assert (field.type, field.title) == ("number", "Grand total")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "a", "string", "("]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "type", "$ref"]), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYWORDS = [
    "type", "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "properties", "items",
    "required", "title", "description", "$ref", "$defs", "anyOf", "allOf", "x-kind", "x-checks",
]  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=4), VALUES)
def test_whatever_a_schema_holds_it_is_read_or_refused_in_words(part, other):
    try:
        read_schema({"properties": {"a": part}, "x-checks": other})
    except RecipeError as error:
        assert all(problem and "Traceback" not in problem for problem in error.problems)
