"""Schemas, checked before any engine sees them."""

from __future__ import annotations

from typing import Any

import pytest

from smidgen.errors import InvalidInput
from smidgen.inference.schema_reader import SchemaReader
from smidgen.inference.structured import schema_of, tool_call_schema

PERSON = {"type": "object", "properties": {"name": {"type": "string"}, "home": {"properties": {"city": {}}}}}


def test_objects_are_closed_all_the_way_down() -> None:
    schema = schema_of(PERSON, most_bytes=1000)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["home"]["additionalProperties"] is False
    assert "additionalProperties" not in PERSON


@pytest.mark.parametrize("said", [True, False, {"type": "integer"}])
def test_what_the_schema_says_of_other_properties_stays(said: Any) -> None:
    assert schema_of(PERSON | {"additionalProperties": said}, most_bytes=1000)["additionalProperties"] == said


def test_a_property_may_be_named_like_a_keyword() -> None:
    schema = schema_of({"type": "object", "properties": {"properties": {"type": "integer"}}}, most_bytes=1000)
    assert schema["properties"] == {"properties": {"type": "integer"}}


def test_keywords_that_cannot_be_enforced_are_left_to_the_model(caplog: pytest.LogCaptureFixture) -> None:
    schema_of({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, most_bytes=1000)
    assert "uniqueItems" in caplog.text


def nested(depth: int) -> dict[str, Any]:
    return {"type": "array", "items": nested(depth - 1)} if depth else {"type": "integer"}


@pytest.mark.parametrize(
    "wanted",
    [
        "xml",
        5,
        ["json"],
        True,
        {"type": "nothing"},
        {"$ref": "#/none"},
        {"pattern": "(?=a)", "type": "string"},
        nested(99),
    ],
)
def test_what_is_no_schema_is_refused(wanted: object) -> None:
    with pytest.raises(InvalidInput, match="invalid format"):
        schema_of(wanted, most_bytes=10_000)


@pytest.mark.parametrize("number", [-(2**63), 2**53 + 1, -1e19, 10**400])
def test_numbers_that_would_end_the_process_are_refused(number: float) -> None:
    for schema in ({"const": number}, {"enum": [[number]]}, {"properties": {"a": {"minimum": number}}}):
        with pytest.raises(InvalidInput, match=r"a number lies beyond"):
            schema_of(schema, most_bytes=1000)
    assert schema_of({"const": -(2**53)}, most_bytes=1000)["const"] == -(2**53)


@pytest.mark.parametrize("name", ["minItems", "minLength", "minProperties"])
def test_counts_that_no_answer_holds_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="more than 100,000 items"):
        schema_of({"properties": {"a": {name: 10**9}}}, most_bytes=1000)
    assert "maxItems" not in schema_of({"type": "array", "maxItems": 10**9}, most_bytes=1000)


def test_a_schema_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 100"):
        schema_of({"enum": ["x" * 200]}, most_bytes=100)


def test_a_call_that_must_be_made_has_a_schema() -> None:
    tools = [{"name": "f", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}, {"name": "g"}]
    assert schema_of(tool_call_schema(tools[:1]), most_bytes=1000)["properties"]["name"] == {"const": "f"}
    assert len(schema_of(tool_call_schema(tools), most_bytes=1000)["anyOf"]) == 2


def test_what_a_functions_schema_refers_to_is_found_inside_a_call() -> None:
    person = {"type": "object", "properties": {"name": {"type": "string"}, "child": {"$ref": "#"}}}
    family = {"type": "object", "properties": {"of": {"$ref": "#/$defs/Person"}}, "$defs": {"Person": person}}
    tools = [{"name": "f", "parameters": family}, {"name": "g", "parameters": family}, {"name": "h"}]
    schema = schema_of(tool_call_schema(tools), most_bytes=5000)
    assert schema["$defs"]["call1"]["properties"]["of"] == {"$ref": "#/$defs/call1/$defs/Person"}
    assert schema["anyOf"][2]["properties"]["arguments"] == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
    with pytest.raises(InvalidInput, match="invalid format"):
        schema_of(tool_call_schema([{"name": "f", "parameters": {"$ref": "#/$defs/none"}}]), most_bytes=5000)


def test_a_schema_that_ends_its_reader_ends_nothing_else() -> None:
    reader = SchemaReader()
    try:
        assert reader.fault_of({"type": "integer"}) == "" and "nothing" in reader.fault_of({"type": "nothing"})
        with pytest.raises(InvalidInput, match="cannot be compiled"):
            reader.fault_of({"const": -(2**63)})
        assert schema_of(PERSON, most_bytes=1000, fault_of=reader.fault_of)["additionalProperties"] is False
    finally:
        reader.close()
