"""Reading a JSON schema: references put in, faults gathered, every value turned into a field to look for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smidgen import registry
from smidgen.documents.kinds import KINDS
from smidgen.documents.schema import FREE, Field, Table, Wanted
from smidgen.documents.vocabulary import LITTLE_WORDS, Concept, concept_of, tokens
from smidgen.errors import RecipeError, ReferenceNotFound

MOST_FIELDS = 200
MOST_DEPTH = 8
KIND, CHECKS = "x-kind", "x-checks"
_TYPES = ("string", "number", "integer", "boolean", "null", "object", "array")
_ANNOTATIONS = {
    "$schema", "$id", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly",    "$comment", "required", "additionalProperties",
}  # fmt: skip
_VALUES = {
    "type", "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems", "properties", "items", 
    "$ref", "anyOf", "allOf", "oneOf",
}  # fmt: skip
_FORMATS = {
    "date": "date", "date-time": "date", "time": "time", "email": "email", "idn-email": "email", 
    "uri": "website", "url": "website",
    "iri": "website", "hostname": "website",
    "phone": "phone", "currency": "currency", "iban": "iban",
}  # fmt: skip


def read_schema(schema: Mapping[str, Any]) -> Wanted:
    """Turn a schema into the fields to look for.

    Raises:
        RecipeError: It asks for nothing, contradicts itself, refers to itself, or has keywords that cannot be kept;
            all faults together.

    Example:
        >>> wanted = read_schema({"properties": {"total": {"type": "number"}, "paid on": {"format": "date"}}})
        >>> [(field.path, field.kind) for field in wanted.fields]
        [('total', 'amount'), ('paid on', 'date')]
    """
    reader = _Reader(schema)
    whole = reader.resolved(schema, (), ())
    if not reader.problems:
        reader.collect(whole, "", 0)
    if not reader.problems and not reader.fields and not reader.tables:
        reader.problems.append('The schema has no "properties", so there is nothing to look for.')
    checks = schema.get(CHECKS, [])
    if not isinstance(checks, list) or not all(isinstance(each, Mapping) for each in checks):
        reader.problems.append(f"{CHECKS} must be a list of objects.")
    if reader.problems:
        raise RecipeError(reader.problems)
    from smidgen.documents.checks import require_known

    wanted = Wanted(whole, tuple(reader.fields), tuple(reader.tables), tuple(checks))
    require_known(wanted)
    return wanted


class _Reader:
    """Walks through a schema and gathers its fields and its faults."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.root = schema
        self.fields: list[Field] = []
        self.tables: list[Table] = []
        self.problems: list[str] = []

    def resolved(self, part: Any, place: tuple[str, ...], within: tuple[str, ...]) -> dict[str, Any]:
        """Return a part of the schema with what it refers to in its place."""
        where = ".".join(place) or "the schema"
        if not isinstance(part, Mapping):
            self.problems.append(f"{where} must be an object, not {str(part)[:40]!r}.")
            return {}
        taken = dict(part)
        reference = taken.pop("$ref", None)
        if reference is not None:
            if reference in within:
                self.problems.append(f"{where} refers to itself through {reference!r}; a page has no endless depth.")
                return {}
            target = self._target(reference, where)
            return self.resolved({**target, **taken}, place, (*within, reference))
        for word in ("anyOf", "oneOf", "allOf"):
            if word in taken:
                taken = self._united(taken, word, place, within)
        unknown = [key for key in taken if key not in _ANNOTATIONS | _VALUES and not key.startswith("x-")]
        if unknown:
            self.problems.append(f"{where} has keywords that are not supported: {', '.join(sorted(unknown))}.")
        if len(place) > MOST_DEPTH:
            self.problems.append(f"{where} is nested more than {MOST_DEPTH} deep.")
            return {}
        if isinstance(taken.get("properties"), Mapping):
            taken["properties"] = {
                str(name): self.resolved(each, (*place, str(name)), within)
                for name, each in taken["properties"].items()
            }
        if "items" in taken:
            taken["items"] = self.resolved(taken["items"], (*place, "[]"), within)
        self._check(taken, where)
        return taken

    def _target(self, reference: Any, where: str) -> Mapping[str, Any]:
        found: Any = self.root
        if not isinstance(reference, str) or not reference.startswith("#"):
            self.problems.append(
                f"{where} refers to {reference!r}, and only references within the schema are followed."
            )
            return {}
        for name in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            self.problems.append(f"{where} refers to {reference!r}, which is not there.")
            return {}
        return found

    def _united(
        self, part: Mapping[str, Any], word: str, place: tuple[str, ...], within: tuple[str, ...]
    ) -> dict[str, Any]:
        """Put the one real alternative of a union in its place; null beside it says that it may be missing."""
        rest = {key: each for key, each in part.items() if key != word}
        choices = [each for each in part[word] if not (isinstance(each, Mapping) and each.get("type") == "null")]
        if len(choices) == 1:
            return self.resolved({**choices[0], **rest}, place, within)
        simple = [each for each in choices if isinstance(each, Mapping) and "$ref" not in each]
        types = {each.get("type") for each in simple}
        if word == "allOf" and len(simple) == len(choices):
            merged: dict[str, Any] = {}
            for each in simple:
                for key, value in each.items():
                    if key in merged and merged[key] != value and key not in ("title", "description"):
                        self.problems.append(
                            f"{'.'.join(place) or 'the schema'} contradicts itself: {key} is given twice."
                        )
                    merged[key] = value
            return {**merged, **rest}
        if len(simple) == len(choices) and types <= {"string", "number", "integer"}:
            # pydantic writes Decimal as "a number or a text": the narrowest type holds what a page shows.
            chosen = next(
                each for name in ("number", "integer", "string") for each in simple if each.get("type") == name
            )
            return {**chosen, **rest}
        self.problems.append(
            f"{'.'.join(place) or 'the schema'} uses {word} with several alternatives, which cannot be told apart."
        )
        return rest

    def _check(self, part: Mapping[str, Any], where: str) -> None:
        """Find what no value can satisfy."""
        types = part.get("type", [])
        for each in [types] if isinstance(types, str) else types if isinstance(types, list) else [types]:
            if each not in _TYPES:
                self.problems.append(f"{where} has the type {each!r}; known: {', '.join(_TYPES)}.")
        for low, high in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
            if (
                isinstance(part.get(low), (int, float))
                and isinstance(part.get(high), (int, float))
                and part[low] > part[high]
            ):
                self.problems.append(f"{where} contradicts itself: {low} {part[low]} is above {high} {part[high]}.")
        if "enum" in part and (not isinstance(part["enum"], list) or not part["enum"]):
            self.problems.append(f"{where} lists no value in its enum.")
        elif (
            "enum" in part
            and types
            and types in _PYTHON
            and not any(isinstance(each, _PYTHON[types]) for each in part["enum"])
        ):
            self.problems.append(f"{where} contradicts itself: no value of its enum is of the type {types}.")
        missing = [name for name in part.get("required", []) if name not in part.get("properties", {})]
        if missing and "properties" in part:
            self.problems.append(f"{where} requires what it does not describe: {', '.join(map(str, missing))}.")
        if "pattern" in part:
            try:
                re.compile(part["pattern"])
            except (re.error, TypeError) as error:
                self.problems.append(f"{where} has a pattern that cannot be read: {error}.")
        kind = part.get(KIND)
        if kind is not None and kind != FREE and kind not in registry.names(KINDS):
            self.problems.append(str(ReferenceNotFound.among(KIND, str(kind), [FREE, *registry.names(KINDS)])))

    def collect(self, part: Mapping[str, Any], path: str, depth: int) -> None:
        """Gather the fields below a part."""
        for name, each in part.get("properties", {}).items():
            place = f"{path}.{name}" if path else name
            kind = _type_of(each)
            if kind == "object":
                self.collect(each, place, depth + 1)
            elif kind == "array":
                self._collect_rows(each, place)
            else:
                self.fields.append(field_of(place, each, kind))
        if len(self.fields) > MOST_FIELDS:
            self.problems.append(f"The schema has more than {MOST_FIELDS} fields.")

    def _collect_rows(self, part: Mapping[str, Any], place: str) -> None:
        row = part.get("items", {})
        if _type_of(row) != "object" or not row.get("properties"):
            self.problems.append(f"{place} is a list of something else than objects, which cannot be read off a page.")
            return
        columns = [(name, each, _type_of(each)) for name, each in row["properties"].items()]
        if any(kind in ("object", "array") for _, _, kind in columns):
            self.problems.append(f"{place} has rows that hold objects or lists, which cannot be read off a page.")
            return
        self.tables.append(Table(place, tuple(field_of(name, each, kind) for name, each, kind in columns)))


_PYTHON: dict[Any, Any] = {"string": str, "number": (int, float), "integer": int, "boolean": bool}


def _type_of(part: Mapping[str, Any]) -> str:
    types = part.get("type")
    if isinstance(types, list):
        types = next((each for each in types if each != "null"), "string")
    if types is None:
        types = "object" if "properties" in part else "array" if "items" in part else None
    if types is None and "enum" in part:
        types = next(
            (name for name, kind in _PYTHON.items() if all(isinstance(each, kind) for each in part["enum"])), "string"
        )
    return str(types or "string") if types != "null" else "string"


def field_of(path: str, part: Mapping[str, Any], type_name: str) -> Field:
    """Return a field with the kind that its schema, or else its name, says."""
    name = path.rpartition(".")[2]
    options = tuple(part["enum"]) if "enum" in part else ((part["const"],) if "const" in part else ())
    said = "choice" if options else part.get(KIND) or _FORMATS.get(str(part.get("format", "")))
    if type_name == "boolean":
        said = "flag"
    concept = _concept(path, part, said, type_name)
    kind = str(said or (concept.kind if concept else {"number": "number", "integer": "number"}.get(type_name, "text")))
    own = tuple(dict.fromkeys(each for each in (tokens(name), tokens(str(part.get("title", "")))) if each))
    bare = tuple(tuple(word for word in label if word not in LITTLE_WORDS) for label in own)
    return Field(path, type_name, kind, concept, part, tuple(dict.fromkeys((*own, *bare))), options)


def _concept(path: str, part: Mapping[str, Any], kind: str | None, type_name: str) -> Concept | None:
    """Return what a field stands for: by its name with its object's, its name, its title, then its description."""
    if kind in ("choice", "flag", FREE):
        kind = None
    *parents, name = path.split(".")
    spoken = [f"{parents[-1]} {name}"] if parents else []
    described = str(part.get("description", ""))
    spoken += [name, str(part.get("title", "")), described if len(described) < 60 else ""]
    numeric = type_name in ("number", "integer")
    for each in filter(None, spoken):
        found = concept_of(each, kind=kind)
        if found is not None and (numeric == (found.kind in ("amount", "number")) or type_name == "string"):
            return found
    return None
