"""Fields that a model writes itself: free text, and what it sees on the pictures of the pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smidgen.documents.extraction import Found
from smidgen.documents.grounding import Ground, boxes_of, ground
from smidgen.documents.schema import FREE, SEEN, Field, Wanted
from smidgen.documents.values import fitting

if TYPE_CHECKING:
    from smidgen.documents.choosing import Chooser
    from smidgen.documents.layout import Layout

MOST_PICTURES = 8
"""Pages that a model is shown."""
_PROBABILITY = 0.5
"""How likely what a model wrote is taken to be right, before the page is asked."""
_LONGEST, _MOST_ROWS = 200, 60
_KEPT = ("type", "enum", "const", "description", "minimum", "maximum", "properties", "items")


def written(wanted: Wanted, chooser: Chooser | None, text: str, layouts: Sequence[Layout]) -> dict[str, Found]:
    """Let the model write the fields that ask for free text, and look for what it wrote on the pages.

    Args:
        wanted: What is asked for.
        chooser: The model; None where there are no such fields.
        text: What the pages say.
        layouts: The pages on which it is looked for.
    """
    fields = [field for field in wanted.fields if field.kind == FREE]
    if not fields or chooser is None:
        return {}
    said = chooser.write(fields, text) if text.strip() else {}
    return {field.path: _found(field, field.path, said.get(field.path) or None, layouts) for field in fields}


def seen(
    wanted: Wanted, chooser: Chooser | None, pictures: Sequence[bytes], layouts: Sequence[Layout]
) -> dict[str, Found]:
    """Let the model read the fields and lists of the kind "seen" off pictures.

    Args:
        wanted: What is asked for.
        chooser: The model; None where there are no such fields.
        pictures: The pages, as the engine takes images.
        layouts: The pages on which what it wrote is looked for.
    """
    if chooser is None or not pictures or not wanted.is_seen:
        return {}
    fields = [field for field in wanted.fields if field.kind == SEEN]
    tables = [table for table in wanted.tables if table.seen]
    said = chooser.see(question(wanted, len(pictures)), answer_schema(wanted), pictures)
    found = {field.path: _found(field, field.path, said.get(field.path), layouts) for field in fields}
    for table in tables:
        rows = said.get(table.path)
        for number, row in enumerate(rows if isinstance(rows, list) else ()):
            for column in table.columns:
                place = f"{table.path}[{number}].{column.path}"
                value = row.get(column.path) if isinstance(row, Mapping) else None
                found[place] = _found(column, place, value, layouts)
    return found


def question(wanted: Wanted, count: int) -> str:
    """Word what a model is asked about pictures."""
    asked = [(field.path, str(field.schema.get("description", ""))) for field in wanted.fields if field.kind == SEEN]
    asked += [(f"{table.path} (a list)", table.description) for table in wanted.tables if table.seen]
    lines = [f"- {name}: {description or 'as it is shown'}" for name, description in asked]
    shown = "this picture" if count == 1 else f"these {count} pictures, which follow each other,"
    listed = "\n".join(lines)
    rules = "What cannot be seen is null. Numbers are read off axes and labels."
    return f"Look at {shown} and answer in JSON:\n{listed}\n{rules}"


def answer_schema(wanted: Wanted) -> dict[str, Any]:
    """Return the schema that a model's answer is held to, with bounds that keep it from going on for ever."""
    parts = {field.path: _bounded(field.schema) for field in wanted.fields if field.kind == SEEN}
    for table in (each for each in wanted.tables if each.seen):
        row = _object({column.path: _bounded(column.schema) for column in table.columns})
        parts[table.path] = {"type": "array", "items": row, "maxItems": _MOST_ROWS}
    return _object(parts)


def _object(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(parts), "required": list(parts), "additionalProperties": False}


def _bounded(part: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in part.items() if key in _KEPT}
    if "enum" not in kept and "const" not in kept:
        kept.setdefault("type", "string")
        kept["maxLength"] = min(int(part.get("maxLength", _LONGEST)), _LONGEST)
    return kept


def _found(field: Field, path: str, value: Any, layouts: Sequence[Layout]) -> Found:
    """Write down what a model wrote: grounded where a page says it in so many words."""
    if value is None:
        return Found(path, None, status="missing")
    note = fitting(value, field.schema)
    if note is not None:
        return Found(path, value, status="invalid_format", confidence=0.5 * _PROBABILITY, note=note)
    place = _place(value, layouts)
    if place is None:
        return Found(path, value, status="ungrounded", confidence=0.5 * _PROBABILITY)
    sure = _PROBABILITY * place.quality
    return Found(path, value, str(value), place.page, boxes_of(place.words), "grounded", sure)


def _place(value: Any, layouts: Sequence[Layout]) -> Ground | None:
    return next((place for each in _spellings(value) if (place := ground(each, layouts)) is not None), None)


def _spellings(value: Any) -> Iterator[str]:
    """Yield how a page may write a value.

    Example:
        >>> list(_spellings(1200.0)), list(_spellings(True)), list(_spellings("Rye"))
        (['1200', '1200.00', '1,200', '1,200.00'], [], ['Rye'])
    """
    if isinstance(value, str):
        yield value
    elif not isinstance(value, bool):
        yield from dict.fromkeys((f"{value:.15g}", f"{value:.2f}", f"{value:,.15g}", f"{value:,.2f}"))
