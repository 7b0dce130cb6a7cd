"""Telling an answer's parts apart as it is written: what is thought, what is said, and which functions are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from smidgen.inference import tool_calls
from smidgen.inference.tool_calls import Call

THINKING_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
)
"""What opens and what closes a model's thinking, by family."""


def thinking_marks(template: str) -> tuple[str, str] | None:
    """Return the marks of thinking that a template writes; None for a model that does not think aloud.

    Example:
        >>> thinking_marks("{{ '<think>' }}"), thinking_marks("{{ x }}")
        (('<think>', '</think>'), None)
    """
    return next((marks for marks in THINKING_MARKS if any(mark in template for mark in marks)), None)


@dataclass(frozen=True)
class Piece:
    """A part of an answer.

    Attributes:
        kind: "text", "thinking" or "call".
        text: What was said or thought.
        call: The function and its arguments.
    """

    kind: Literal["text", "thinking", "call"]
    text: str = ""
    call: Call | None = None


class AnswerParser:
    r"""Takes an answer in pieces of any size, and gives its parts.

    Text is held back only as long as it may be the beginning of a mark or of a call.

    Args:
        thinking: The marks of the model's thinking; None where it does not think aloud.
        is_thinking: Whether the prompt already opened the thinking.
        tools: Functions that may be called, their parameters' schemas by name; empty finds no calls.

    Example:
        >>> parser = AnswerParser(("<think>", "</think>"))
        >>> pieces = [*parser.feed("<thi"), *parser.feed("nk>Hm.</think>\n\nYes"), *parser.finish()]
        >>> [(piece.kind, piece.text) for piece in pieces]
        [('thinking', 'Hm.'), ('text', 'Yes')]
    """

    def __init__(
        self,
        thinking: tuple[str, str] | None = None,
        *,
        is_thinking: bool = False,
        tools: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._thinking = thinking
        self._tools = tools or {}
        self._held = ""
        self._state: Literal["start", "thinking", "text", "call", "json"] = "thinking" if is_thinking else "start"
        self._closing = ""
        self._opening = ""
        self._trim = is_thinking

    @property
    def is_thinking(self) -> bool:
        """Whether the thinking has not ended."""
        return self._state == "thinking"

    @property
    def is_answering(self) -> bool:
        """Whether something was said that is no thinking."""
        return self._state in ("text", "call", "json")

    def feed(self, text: str) -> list[Piece]:
        """Take the next part of the answer."""
        if self._state == "text" and not (self._tools or self._held or self._trim):
            return [Piece("text", text)] if text else []  # nothing can begin here that is no text
        self._held += text
        pieces: list[Piece] = []
        while (step := self._step()) is not None:
            pieces += step
        return pieces

    def finish(self) -> list[Piece]:
        """Give what was held back, once nothing more comes."""
        pieces = self.feed("")
        held, self._held = self._held, ""
        if self._state in ("call", "json"):
            calls = tool_calls.parse(held, self._tools)
            if calls is not None:
                return pieces + [Piece("call", call=call) for call in calls]
            held = self._opening + held
        kind: Literal["text", "thinking"] = "thinking" if self._state == "thinking" else "text"
        held = held.lstrip() if self._trim else held
        return pieces + ([Piece(kind, held)] if held else [])

    def _step(self) -> list[Piece] | None:
        """Move on by one mark; None where more text is needed."""
        if self._state == "start":
            return self._begin()
        if self._state == "thinking":
            return self._think()
        if self._state == "text":
            return self._say()
        return self._call()

    def _begin(self) -> list[Piece] | None:
        """Decide what the first words are: thinking, a call in plain JSON, or text."""
        start = self._held.lstrip()
        if not start:
            return None
        opening = self._thinking[0] if self._thinking else ""
        if opening and start.startswith(opening):
            self._held, self._state, self._trim = start[len(opening) :], "thinking", True
            return []
        if opening and opening.startswith(start):
            return None
        if self._tools and "```json".startswith(start[:7]) and len(start) < 7:
            return None
        announced = any(start.startswith(mark) for mark in tool_calls.MARKS)
        if self._tools and not announced and (start[0] in "{[" or start.startswith("```json")):
            if start[0] == "[" and any(mark.startswith(start) for mark in tool_calls.MARKS):
                return None
            self._held, self._state, self._opening = start, "json", ""
            return []
        self._state = "text"
        return []

    def _think(self) -> list[Piece] | None:
        assert self._thinking is not None
        before, closed, after = self._held.partition(self._thinking[1])
        if closed:
            self._held, self._state = after, "start"
            said = before.lstrip() if self._trim else before
            self._trim = True
            return [Piece("thinking", said.rstrip())] if said.strip() else []
        return self._pour("thinking", (self._thinking[1],))

    def _say(self) -> list[Piece] | None:
        marks = tool_calls.MARKS if self._tools else {}
        places = [(at, mark) for mark in marks if (at := self._held.find(mark)) >= 0]
        if not places:
            return self._pour("text", tuple(marks))
        at, mark = min(places)
        before, self._held = self._held[:at], self._held[at + len(mark) :]
        self._state, self._opening, self._closing = "call", mark, marks[mark]
        if mark == "functools[":
            self._held = "[" + self._held
        before = before.lstrip() if self._trim else before
        return [Piece("text", before)] if before.strip() else []

    def _call(self) -> list[Piece] | None:
        if self._state == "json":
            ends = self._held.rstrip()[-1:] in ("}", "]")
            whole, rest = (self._held, "") if ends and tool_calls.is_whole(self._held) else ("", self._held)
        else:
            whole, closed, rest = self._held.partition(self._closing) if self._closing else ("", "", self._held)
            whole = whole if closed else ""
        if not whole:
            return None
        calls = tool_calls.parse(whole, self._tools)
        self._held, self._state = rest, "text" if calls is None else "start"
        if calls is None:
            return [Piece("text", self._opening + whole + (self._closing if self._opening else ""))]
        self._trim = True
        return [Piece("call", call=call) for call in calls]

    def _pour(self, kind: Literal["text", "thinking"], marks: tuple[str, ...]) -> list[Piece] | None:
        """Give what is held but for an end that may be the beginning of a mark (or white space before one)."""
        text = self._held.lstrip() if self._trim else self._held
        longest = max((len(mark) for mark in marks), default=1) - 1
        keep = next(
            (n for n in range(min(longest, len(text)), 0, -1) if any(mark.startswith(text[-n:]) for mark in marks)), 0
        )
        said = text[: len(text) - keep]
        if kind == "thinking" and marks:
            said = said.rstrip()
        if not said:
            return None
        self._held, self._trim = text[len(said) :], False
        return [Piece(kind, said)] if said else None
