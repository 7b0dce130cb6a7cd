"""Schemas as people write them; each fault is told in words, and all of them together."""

import json

import pytest
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
