"""Records with named fields become rows, whatever of the usual names the fields bear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smidgen.data.rows import Message, Row
from smidgen.errors import InvalidInput

TEXTS = ("text", "content")
PROMPTS = ("prompt", "instruction", "question")
COMPLETIONS = ("completion", "output", "answer", "response")
CHATS = ("messages", "conversations")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_EXPECTED = (
    "Expected: text (or content); prompt and completion (or instruction, input and output; or question and answer); "
    "or messages (or conversations). label is optional."
)


def rows_from(records: Iterable[tuple[str, Mapping[str, Any]]], name: str) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Turn records into rows.

    Args:
        records: Pairs of a record's place ("tickets.jsonl, line 7") and its fields.
        name: Of the file, for messages.

    Returns:
        The rows, and a warning when records without any words were left out.

    Raises:
        InvalidInput: A record has no known shape, or none has any words.
    """
    rows: list[Row] = []
    empty: list[str] = []
    for place, record in records:
        row = row_from(record, place)
        if row.plain.strip() and (row.completion is None or row.completion.strip()):
            rows.append(row)
        else:
            empty.append(place)
    if not rows:
        raise InvalidInput(
            f"{name} has no row with any words ({len(empty):,} empty ones).", remedy="Fill in the rows' fields."
        )
    if not empty:
        return tuple(rows), ()
    one = len(empty) == 1
    return tuple(rows), (f"{len(empty):,} empty row{' was' if one else 's were'} left out (first: {empty[0]}).",)


def row_from(record: Mapping[str, Any], place: str) -> Row:
    """Turn one record into a row.

    Raises:
        InvalidInput: The record has no known shape; the message names the fields found and expected.

    Example:
        >>> row_from({"question": "2 + 2?", "answer": 4}, "sums.jsonl, line 1").completion
        '4'
    """
    fields = {str(name).strip().lower(): value for name, value in record.items() if value is not None}
    label = _string(fields["label"], place, "label") if "label" in fields else None
    if chat := _first(fields, CHATS):
        return Row(messages=_messages(fields[chat], place, chat), label=label, origin=place)
    prompt, completion = _first(fields, PROMPTS), _first(fields, COMPLETIONS)
    if prompt is None and "input" in fields:
        prompt = "input"
    if prompt and completion:
        return _pair(fields, prompt, completion, label, place)
    if text := _first(fields, TEXTS):
        return Row(_string(fields[text], place, text), label=label, origin=place)
    found = ", ".join(str(name) for name in record) or "none"
    raise InvalidInput(f"{place}: a row of unknown shape with the fields {found}.", remedy=_EXPECTED)


def _pair(fields: dict[str, Any], prompt: str, completion: str, label: str | None, place: str) -> Row:
    if isinstance(fields[prompt], list) and isinstance(fields[completion], list):
        turns = _messages(fields[prompt], place, prompt) + _messages(fields[completion], place, completion)
        return Row(messages=turns, label=label, origin=place)
    asked = _string(fields[prompt], place, prompt)
    further = _string(fields.get("input", ""), place, "input") if prompt != "input" else ""
    asked = f"{asked}\n\n{further}" if further.strip() else asked
    return Row(prompt=asked, completion=_string(fields[completion], place, completion), label=label, origin=place)


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in fields), None)


def _string(value: Any, place: str, field: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise InvalidInput(f"{place}: the field {field!r} must be text, not {type(value).__name__}.", remedy=_EXPECTED)


def _messages(value: Any, place: str, field: str) -> tuple[Message, ...]:
    """Read a chat in either usual form: role and content, or from and value (ShareGPT)."""
    form = "Each turn needs role and content (or from and value), both text."
    if not isinstance(value, list) or not value:
        raise InvalidInput(f"{place}: {field!r} must be a list of turns.", remedy=form)
    turns = []
    for number, turn in enumerate(value, 1):
        role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
        content = _joined(turn.get("content", turn.get("value"))) if isinstance(turn, Mapping) else None
        if not isinstance(role, str) or content is None:
            raise InvalidInput(f"{place}: turn {number} of {field!r} is not understood.", remedy=form)
        turns.append(Message(_ROLES.get(role.lower(), role.lower()), content))
    return tuple(turns)


def _joined(content: Any) -> str | None:
    """Text of a turn; a list of text parts is joined."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else None
