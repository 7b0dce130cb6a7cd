"""What data are: rows of text, and a corpus that holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from smidgen.errors import InvalidInput


@dataclass(frozen=True)
class Message:
    """One turn of a chat.

    Attributes:
        role: ``system``, ``user``, ``assistant`` or another role that the chat template knows.
        content: What was said.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Row:
    r"""One training or measuring item: plain text, a prompt with its completion, or a chat.

    Attributes:
        text: Plain text.
        prompt: What is asked; together with ``completion``.
        completion: What is to be answered.
        messages: The turns of a chat.
        label: The right answer of a labelled row, None where there is none.
        origin: Where the row came from, for messages ("tickets.jsonl, line 7").

    Raises:
        InvalidInput: Not exactly one of the three shapes is given.

    Example:
        >>> Row(prompt="2 + 2 =", completion=" 4").plain
        '2 + 2 =\n 4'
    """

    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] | None = None
    label: str | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        pair = (self.prompt is not None, self.completion is not None)
        shapes = (self.text is not None) + any(pair) + (self.messages is not None)
        if shapes != 1 or (any(pair) and not all(pair)):
            place = f" ({self.origin})" if self.origin else ""
            raise InvalidInput(
                f"A row must have exactly one shape{place}.",
                remedy="Give text, or prompt with completion, or messages.",
            )

    @property
    def plain(self) -> str:
        """All words of the row as one string, without a chat template."""
        if self.text is not None:
            return self.text
        if self.messages is not None:
            return "\n".join(message.content for message in self.messages)
        return f"{self.prompt}\n{self.completion}"

    @property
    def turns(self) -> tuple[Message, ...]:
        """The row as a chat: its messages, or its prompt and completion as two turns; empty for plain text."""
        if self.messages is not None:
            return self.messages
        if self.prompt is not None and self.completion is not None:
            return (Message("user", self.prompt), Message("assistant", self.completion))
        return ()

    def to_dict(self) -> dict[str, object]:
        """Return the row as a record that every reader of data understands; its origin does not count.

        Example:
            >>> Row("Win!", label="spam").to_dict()
            {'text': 'Win!', 'label': 'spam'}
        """
        parts = {name: getattr(self, name) for name in ("text", "prompt", "completion", "label")}
        found: dict[str, object] = {name: part for name, part in parts.items() if part is not None}
        if self.messages is not None:
            turns = [{"role": message.role, "content": message.content} for message in self.messages]
            found = {"messages": turns} | found
        return found


@dataclass(frozen=True)
class Corpus:
    """Rows with a name.

    Attributes:
        name: What reports call it.
        rows: The rows, in order.
        licence: SPDX identifier where it is known.
        warnings: What the user should know about how it was read (skipped rows, a stand-in text).

    Example:
        >>> Corpus("two", (Row("a"), Row("b"))).sha256[:8]
        'df8f54d8'
    """

    name: str
    rows: tuple[Row, ...]
    licence: str | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of the content: every row's words and label, in order. Name and origin do not count."""
        digest = hashlib.sha256()
        for row in self.rows:
            shape: list[object] = [row.text, row.prompt, row.completion, row.label]
            shape.append([[message.role, message.content] for message in row.messages] if row.messages else None)
            digest.update(json.dumps(shape, separators=(",", ":")).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    @property
    def characters(self) -> int:
        """Characters of all rows together."""
        return sum(len(row.plain) for row in self.rows)

    @property
    def labelled(self) -> bool:
        """Whether every row carries a label."""
        return bool(self.rows) and all(row.label is not None for row in self.rows)

    def with_rows(self, rows: Iterable[Row], *, part: str = "", warnings: tuple[str, ...] = ()) -> Corpus:
        """Copy with other rows, the part's name appended and warnings added."""
        name = f"{self.name} ({part})" if part else self.name
        return replace(self, name=name, rows=tuple(rows), warnings=self.warnings + warnings)
