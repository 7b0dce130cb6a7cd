"""A JSON schema without references and unions: each in its place what it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from smidgen.documents.schema_faults import faults

MOST_DEPTH = 8
MOST_PARTS = 2000
"""Parts of a schema that are looked at; one that is referred to counts each time."""
_REFERENCE = "$ref"
_UNIONS = ("anyOf", "oneOf", "allOf")
_NARROWEST = ("number", "integer", "string")


@dataclass(frozen=True)
class _Place:
    """Where in a schema something stands.

    Attributes:
        path: Names of the fields that it lies in.
        through: The references that led here.
    """

    path: tuple[str, ...] = ()
    through: tuple[Any, ...] = ()

    def below(self, name: str) -> _Place:
        return replace(self, path=(*self.path, name))

    def __str__(self) -> str:
        return ".".join(self.path) or "the schema"


class Resolver:
    """Puts what a schema refers to, and the one real alternative of its unions, in their places.

    Args:
        schema: The whole schema.

    Attributes:
        problems: What cannot be kept, in words.

    Example:
        >>> sum_ = {"anyOf": [{"$ref": "#/$defs/sum"}, {"type": "null"}]}
        >>> resolver = Resolver({"$defs": {"sum": {"type": "number"}}, "properties": {"total": sum_}})
        >>> resolver.whole()["properties"], resolver.problems
        ({'total': {'type': 'number'}}, [])
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._parts = 0
        self.problems: list[str] = []

    def whole(self) -> dict[str, Any]:
        """Return the schema; what has a problem in it is left out."""
        return self._resolved(self._root, _Place())

    def _resolved(self, given: Any, place: _Place) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            self.problems.append(f"{place} must be an object, not {str(given)[:40]!r}.")
            return {}
        if not self._is_within_bounds(place):
            return {}
        part, place = self._plain(dict(given), place)
        self.problems += faults(part, str(place))
        if isinstance(part.get("properties"), Mapping):
            part["properties"] = {
                str(name): self._resolved(each, place.below(str(name))) for name, each in part["properties"].items()
            }
        if "items" in part:
            part["items"] = self._resolved(part["items"], place.below("[]"))
        return part

    def _is_within_bounds(self, place: _Place) -> bool:
        self._parts += 1
        if self._parts == MOST_PARTS + 1:
            self.problems.append(
                f"The schema has more than {MOST_PARTS:,} parts, each counted where it is referred to."
            )
        elif len(place.path) > MOST_DEPTH:
            self.problems.append(f"{place} is nested more than {MOST_DEPTH} deep.")
            return False
        return self._parts <= MOST_PARTS

    def _plain(self, part: dict[str, Any], place: _Place) -> tuple[dict[str, Any], _Place]:
        """Replace a part's own reference and unions, and those that they bring, until there are none."""
        while word := next((each for each in (_REFERENCE, *_UNIONS) if each in part), None):
            given = part.pop(word)
            if word != _REFERENCE:
                part = {**self._united(word, given, place), **part}
            elif given in place.through:
                self.problems.append(f"{place} refers to itself through {given!r}; a page has no endless depth.")
                return {}, place
            else:
                part = {**self._target(given, place), **part}
                place = replace(place, through=(*place.through, given))
        return part, place

    def _target(self, reference: Any, place: _Place) -> Mapping[str, Any]:
        """Return what a reference leads to."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            self.problems.append(
                f"{place} refers to {reference!r}, and only references within the schema are followed."
            )
            return {}
        found: Any = self._root
        for name in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            self.problems.append(f"{place} refers to {reference!r}, which is not there.")
            return {}
        return found

    def _united(self, word: str, alternatives: Sequence[Any], place: _Place) -> Mapping[str, Any]:
        """Return what a union stands for; null among its alternatives says that the value may be missing."""
        real = [each for each in alternatives if isinstance(each, Mapping) and each.get("type") != "null"]
        if len(real) == 1:
            return dict(real[0])
        if all(_REFERENCE not in each for each in real):
            if word == "allOf":
                return self._merged(real, place)
            if {str(each.get("type")) for each in real} <= set(_NARROWEST):
                # pydantic writes Decimal as "a number or a text": the narrowest type holds what a page shows.
                return min(real, key=lambda each: _NARROWEST.index(str(each["type"])))
        self.problems.append(f"{place} uses {word} with several alternatives, which cannot be told apart.")
        return {}

    def _merged(self, parts: Sequence[Mapping[str, Any]], place: _Place) -> dict[str, Any]:
        """Return what holds where all parts must."""
        merged: dict[str, Any] = {}
        for part in parts:
            for key, value in part.items():
                if key in merged and merged[key] != value and key not in ("title", "description"):
                    self.problems.append(f"{place} contradicts itself: {key} is given twice.")
                merged[key] = value
        return merged
