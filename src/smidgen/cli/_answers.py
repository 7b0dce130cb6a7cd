"""Writing answers to the terminal: thinking apart from what is said, and lines broken between words."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from smidgen.cli._conversation import Chat
    from smidgen.inference.engine import Chunk

THINKS, THOUGHT = "Thinking...\n", "\n...done thinking.\n\n"


class Wrapper:
    r"""Writes text as it comes, beginning a new line before a word that does not fit.

    Args:
        stream: Where to.
        width: Columns of a line; 0 breaks none.

    Example:
        >>> import io
        >>> shown = io.StringIO()
        >>> wrapper = Wrapper(shown, 11)
        >>> for piece in ("One tw", "o three ", "four."):
        ...     wrapper.write(piece)
        >>> wrapper.finish()
        >>> shown.getvalue()
        'One two \nthree four.'
    """

    def __init__(self, stream: TextIO, width: int) -> None:
        self._stream, self._width = stream, width
        self._column = 0
        self._word = ""

    def write(self, text: str) -> None:
        """Take the next piece."""
        if not self._width:
            self._stream.write(text)
            self._stream.flush()
            return
        for character in text:
            if character.isspace():
                self.finish()
                self._put(character)
            else:
                self._word += character
                if columns(self._word) >= self._width:
                    self.finish()
        self._stream.flush()

    def finish(self) -> None:
        """Write the word that waits for its end."""
        if self._word and self._column and self._column + columns(self._word) > self._width:
            self._put("\n")
        self._put(self._word)
        self._word = ""
        self._stream.flush()

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._column = 0 if text == "\n" else self._column + columns(text)


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    Example:
        >>> columns("abc"), columns("日本")
        (3, 4)
    """
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def terminal_width(stream: TextIO) -> int:
    """Return the columns of a terminal, 0 where the stream is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def show(
    chat: Chat,
    text: str,
    images: tuple[bytes, ...] = (),
    *,
    wrap: bool = True,
    hide_thinking: bool = False,
    stream: TextIO | None = None,
) -> Chunk | None:
    """Answer on the terminal. Left by Ctrl-C, what was said so far is remembered.

    Args:
        chat: The conversation.
        text: What is asked.
        images: What is to be looked at.
        wrap: Break lines between words, on a terminal.
        hide_thinking: Show only what is said.
        stream: Where to; stdout where None.

    Returns:
        The answer's last piece; None where there was none.
    """
    stream = stream or sys.stdout
    wrapper = Wrapper(stream, terminal_width(stream) if wrap else 0)
    answer, last = chat.answer(text, images), None
    write, finish = _writer(chat, wrapper, hide_thinking)
    try:
        for last in answer:
            write(last.text)
        finish()
        wrapper.finish()
    finally:
        answer.close()
    return last


def _writer(chat: Chat, wrapper: Wrapper, hide: bool) -> tuple[Callable[[str], None], Callable[[], None]]:
    """Return what takes the pieces of an answer and what ends it, with thinking told apart where it was asked for."""
    if chat.think is None and not hide:
        return wrapper.write, lambda: None
    from smidgen.inference.answers import AnswerParser, thinking_marks

    marks = thinking_marks(chat.own_template() or "") or ("<think>", "</think>")
    parser = AnswerParser(marks)
    pieces: Generator[None, tuple[str, str], None] = _parts(wrapper, hide)
    next(pieces)

    def write(text: str) -> None:
        for piece in parser.feed(text):
            pieces.send((piece.kind, piece.text))

    def finish() -> None:
        for piece in parser.finish():
            pieces.send((piece.kind, piece.text))
        pieces.close()

    return write, finish


def _parts(wrapper: Wrapper, hide: bool) -> Generator[None, tuple[str, str], None]:
    """Write what is thought between two lines that say so, then what is said."""
    thinking = False
    while True:
        kind, text = yield
        if kind == "thinking" and hide:
            continue
        if (kind == "thinking") != thinking:
            thinking = not thinking
            wrapper.finish()
            wrapper.write(THINKS if thinking else THOUGHT)
        wrapper.write(text)
