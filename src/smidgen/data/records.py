"""Rows of labelled data as they stand, field by field, each with its place for messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from smidgen import registry
from smidgen.data.readers import __name__ as READERS
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported

SUFFIXES = (".jsonl", ".json", ".csv")
"""Files that records are read from."""


class _Reader(Protocol):
    def records(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]: ...


@dataclass(frozen=True)
class Record:
    """One row.

    Attributes:
        place: Where it stands: "arc.jsonl, line 7".
        fields: Its values by name; names are in small letters, values that are null are left out.

    Example:
        >>> record = Record("sums.jsonl, line 1", {"question": "2 + 2?", "answer": 4})
        >>> record.text("query", "question"), record.text("answer"), record.has("gold")
        ('2 + 2?', '4', False)
    """

    place: str
    fields: Mapping[str, Any]

    def has(self, *names: str) -> bool:
        """Say whether it has one of the fields."""
        return any(name in self.fields for name in names)

    def value(self, *names: str) -> Any:
        """Return the first of the fields that is there.

        Raises:
            InvalidInput: It has none of them.
        """
        for name in names:
            if name in self.fields:
                return self.fields[name]
        found = ", ".join(self.fields) or "none"
        raise self.error(f"has no field {' or '.join(map(repr, names))} (it has: {found})")

    def text(self, *names: str) -> str:
        """Return a field that holds words; a number is written out.

        Raises:
            InvalidInput: It has none of the fields, or the value is no text.
        """
        value = self.value(*names)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"has {self._name(names)} that is no text: {str(value)[:40]!r}")
        return value

    def texts(self, *names: str) -> tuple[str, ...]:
        """Return a field that holds a list of texts, in a CSV written as JSON.

        Raises:
            InvalidInput: It has none of the fields, or the value is no such list.
        """
        import json

        value = self.value(*names)
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise self.error(f"has {self._name(names)} that is no JSON list") from None
        found = [str(each) if isinstance(each, int | float) else each for each in value] if _is_list(value) else []
        if not found or not all(isinstance(each, str) and each.strip() for each in found):
            raise self.error(f"has {self._name(names)} that is no list of texts: {str(value)[:40]!r}")
        return tuple(found)

    def number(self, *names: str, count: int, first: int = 0) -> int:
        """Return a field that holds the number of a choice, counted from 0.

        Args:
            names: The fields.
            count: How many choices there are.
            first: The number that the file gives to the first of them.

        Raises:
            InvalidInput: It has none of the fields, or the value is no such number.
        """
        value = self.value(*names)
        if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not first <= value < first + count:
            raise self.error(f"has {self._name(names)} {value!r}, expected {first} to {first + count - 1}")
        return value - first

    def error(self, what: str) -> InvalidInput:
        """Return the error that says what is wrong with this row."""
        return InvalidInput(f"{self.place} {what}.")

    def _name(self, names: tuple[str, ...]) -> str:
        return repr(next(name for name in names if name in self.fields))


def read_records(path: Path | str) -> tuple[Record, ...]:
    """Read all rows of a file.

    Raises:
        ReferenceNotFound: There is no such file.
        Unsupported: It is of another kind.
        DamagedFile: A line cannot be read; the message has its number.
        InvalidInput: It has no rows.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ReferenceNotFound(f"There is no file {str(path)!r}.")
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise Unsupported(f"{file} is not one of {' '.join(SUFFIXES)}.", remedy="Convert or rename it.")
    reader = cast(_Reader, registry.find(READERS, suffix.removeprefix("."))())
    records = tuple(Record(place, _clean(fields)) for place, fields in reader.records(file))
    if not records:
        raise InvalidInput(f"{file} has no rows.")
    return records


def _clean(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name).strip().lower(): value for name, value in fields.items() if value is not None}


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
