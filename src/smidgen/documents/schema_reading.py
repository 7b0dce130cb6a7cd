"""Reading a JSON schema: every value that it asks for becomes a field to look for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from smidgen.documents.schema import AUTHORED, SEEN, Field, Table, Wanted
from smidgen.documents.schema_faults import KIND, TYPES, malformed, types_of
from smidgen.documents.schema_resolving import Resolver
from smidgen.documents.vocabulary import LITTLE_WORDS, Concept, concept_of, tokens
from smidgen.errors import RecipeError

MOST_FIELDS = 200
CHECKS = "x-checks"
_FORMATS = {
    "date": "date", "date-time": "date", "time": "time", "email": "email", "idn-email": "email", "uri": "website",
    "url": "website", "iri": "website", "hostname": "website", "phone": "phone", "currency": "currency", "iban": "iban",
}  # fmt: skip
_SINGLE = ("string", "number", "integer", "boolean")


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
    if problems := malformed(schema):
        raise RecipeError(problems)
    resolver = Resolver(schema)
    whole = resolver.whole()
    if problems := resolver.problems:
        raise RecipeError(problems)
    found, problems = _collected(whole)
    checks = schema.get(CHECKS, [])
    if not isinstance(checks, list) or not all(isinstance(each, Mapping) for each in checks):
        problems.append(f"{CHECKS} must be a list of objects.")
    if problems:
        raise RecipeError(problems)
    from smidgen.documents.checks import require_known

    fields = tuple(each for each in found if isinstance(each, Field))
    tables = tuple(each for each in found if isinstance(each, Table))
    wanted = Wanted(whole, fields, tables, tuple(checks))
    require_known(wanted)
    return wanted


def _collected(whole: Mapping[str, Any]) -> tuple[list[Field | Table], list[str]]:
    """Return what a schema asks for, and what of it cannot be read off a page."""
    found: list[Field | Table] = []
    problems: list[str] = []
    for each in _below(whole, ""):
        if isinstance(each, str):
            problems.append(each)
        else:
            found.append(each)
    if not found and not problems:
        problems.append('The schema has no "properties", so there is nothing to look for.')
    if sum(isinstance(each, Field) for each in found) > MOST_FIELDS:
        problems.append(f"The schema has more than {MOST_FIELDS} fields.")
    return found, problems


def _below(part: Mapping[str, Any], path: str) -> Iterator[Field | Table | str]:
    """Yield the fields and tables of a part, and problems in words."""
    for name, each in part.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        kind = _type_of(each)
        if kind == "object":
            yield from _below(each, place)
        elif kind == "array":
            yield _table(each, place)
        else:
            yield field_of(place, each, kind)


def _table(part: Mapping[str, Any], place: str) -> Table | str:
    """Return the table whose rows a part describes, or why it is none."""
    row = part.get("items", {})
    if _type_of(row) != "object" or not row.get("properties"):
        return f"{place} is a list of something else than objects, which cannot be read off a page."
    columns = [(name, each, _type_of(each)) for name, each in row["properties"].items()]
    if any(kind in ("object", "array") for _, _, kind in columns):
        return f"{place} has rows that hold objects or lists, which cannot be read off a page."
    fields = tuple(field_of(name, each, kind) for name, each, kind in columns)
    return Table(place, fields, part.get(KIND) == SEEN, str(part.get("description", "")))


def _type_of(part: Mapping[str, Any]) -> str:
    """Return the type of a part's values: what it says, else what it must be, else a text."""
    said = next((each for each in types_of(part) if each != "null"), None)
    if said is not None:
        return str(said)
    if "type" not in part and "properties" in part:
        return "object"
    if "type" not in part and "items" in part:
        return "array"
    values = part.get("enum", [])
    fitting = (name for name in _SINGLE if values and all(isinstance(each, TYPES[name]) for each in values))
    return next(fitting, "string") if "type" not in part else "string"


def field_of(path: str, part: Mapping[str, Any], type_name: str) -> Field:
    """Return a field with the kind that its schema, or else its name, says."""
    name = path.rpartition(".")[2]
    options = tuple(part["enum"]) if "enum" in part else ((part["const"],) if "const" in part else ())
    said = "choice" if options else part.get(KIND) or _FORMATS.get(str(part.get("format", "")))
    if type_name == "boolean":
        said = "flag"
    said = part[KIND] if part.get(KIND) == SEEN else said
    concept = _concept(path, part, said, type_name)
    kind = str(said or (concept.kind if concept else {"number": "number", "integer": "number"}.get(type_name, "text")))
    own = tuple(dict.fromkeys(each for each in (tokens(name), tokens(str(part.get("title", "")))) if each))
    bare = tuple(tuple(word for word in label if word not in LITTLE_WORDS) for label in own)
    return Field(path, type_name, kind, concept, part, tuple(dict.fromkeys((*own, *bare))), options)


def _concept(path: str, part: Mapping[str, Any], kind: str | None, type_name: str) -> Concept | None:
    """Return what a field stands for: by its name with its object's, its name, its title, then its description."""
    if kind in ("choice", "flag", *AUTHORED):
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
