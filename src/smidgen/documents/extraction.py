"""What was found in a document, field by field, and how it is written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from smidgen.documents.page import Box, Page

Status = Literal["grounded", "ungrounded", "missing", "invalid_format", "failed_check"]


@dataclass(frozen=True)
class Found:
    """One field's value.

    Attributes:
        path: The field's name, behind those of the objects it lies in; rows are counted: ``lines[0].amount``.
        value: What it means, None where it is missing.
        text: What stands on the page.
        page: Number of the page, None where it stands on none.
        boxes: Where its lines stand on the page.
        status: "grounded" where the page says so, "ungrounded" where a model wrote what no page says, "missing",
            "invalid_format" where what was found does not fit the schema, "failed_check" where it contradicts others.
        confidence: How likely it is right, 0 to 1: of reading it, of choosing it, and of understanding it.
        note: What is wrong, in one sentence.
    """

    path: str
    value: Any
    text: str | None = None
    page: int | None = None
    boxes: tuple[Box, ...] = ()
    status: Status = "grounded"
    confidence: float = 0.0
    note: str | None = None

    @property
    def box(self) -> Box | None:
        """The box around all of it, None where it stands on no page."""
        first, *rest = self.boxes or (None,)
        for each in rest:
            first = first.joined(each) if first is not None and each is not None else first
        return first

    def describe(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        box = self.box
        described = {
            "value": self.value,
            "text": self.text,
            "page": self.page,
            "box": None if box is None else box.rounded(),
            "status": self.status,
            "confidence": round(self.confidence, 4),
        }
        return described if self.note is None else {**described, "note": self.note}


@dataclass(frozen=True)
class Sheet:
    """A page that was read, without its words."""

    number: int
    width: float
    height: float
    unit: str
    source: str
    rotation: int
    skew: float
    words: int

    @classmethod
    def of(cls, page: Page) -> Sheet:
        """Return what is kept of a page."""
        return cls(
            page.number, round(page.width, 1), round(page.height, 1), page.unit, page.source, page.rotation,
            round(page.skew, 2), len(page.words),
        )  # fmt: skip


@dataclass(frozen=True)
class Extraction:
    """What was found in a document.

    Attributes:
        file: The document's name.
        fields: What was found, by path.
        data: The values alone, in the schema's own shape; what does not fit the schema is null.
        pages: The pages that were read.
        faults: What the schema's checks say is wrong.
        model: The model that chose where the layout left a doubt, None where none was asked.
        seconds: Processor time that it took in this process.
    """

    file: str
    fields: Mapping[str, Found]
    data: Mapping[str, Any]
    pages: tuple[Sheet, ...]
    faults: tuple[str, ...] = ()
    model: str | None = None
    seconds: float = field(default=0.0, compare=False)

    def __getitem__(self, path: str) -> Any:
        """Return a field's value, as ``extraction["total"]``."""
        return self.fields[path].value

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "file": self.file,
            "data": dict(self.data),
            "fields": {path: found.describe() for path, found in self.fields.items()},
            "faults": list(self.faults),
            "pages": [dict(vars(page)) for page in self.pages],
            "model": self.model,
            "seconds": round(self.seconds, 3),
        }


def nested(found: Mapping[str, Found], lists: Iterator[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Bring values into the schema's shape; what does not fit the schema becomes null.

    Args:
        found: The fields by path.
        lists: Paths of lists, which are there even when they are empty.

    Example:
        >>> nested({"a.b": Found("a.b", 1), "rows[0].c": Found("rows[0].c", 2)})
        {'a': {'b': 1}, 'rows': [{'c': 2}]}
    """
    whole: dict[str, Any] = {}
    for path in lists:
        *parents, name = path.split(".")
        _within(whole, parents)[name] = []
    for path, each in found.items():
        *parents, name = path.split(".")
        _within(whole, parents)[name] = None if each.status == "invalid_format" else each.value
    return whole


def _within(whole: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    place = whole
    for parent in parents:
        name, bracket, rest = parent.partition("[")
        if bracket:
            rows = place.setdefault(name, [])
            while len(rows) <= int(rest[:-1]):
                rows.append({})
            place = rows[int(rest[:-1])]
        else:
            place = place.setdefault(name, {})
    return place
