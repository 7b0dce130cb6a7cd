"""Plain text files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.readers._text import read_text
from smidgen.data.rows import Row

_LARGEST = 4_000_000
_BORDER = re.compile(r"\n(?:[ \t]*\n){2,}|\f")


@dataclass(frozen=True)
class Txt:
    """Plain text: a new document begins after two or more blank lines or a form feed.

    A file without such borders is one document, as llama.cpp's perplexity tool reads it; beyond 4 million characters
    it is cut between paragraphs.
    """

    def read(self, path: Path) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Read the documents of one file, and warnings."""
        parts = [part for part in _BORDER.split(read_text(path)) if part.strip()]
        return tuple(Row(piece, origin=path.name) for part in parts for piece in pieces(part)), ()


def pieces(text: str, largest: int = _LARGEST) -> list[str]:
    r"""Cut a very long text after a paragraph, or where none ends, after a line or anywhere.

    Example:
        >>> pieces("one\n\ntwo\n\nthree", 10)
        ['one\n\ntwo\n\n', 'three']
    """
    cut = []
    while len(text) > largest:
        marks = ((mark, text.rfind(mark, 0, largest)) for mark in ("\n\n", "\n"))
        end = next((at + len(mark) for mark, at in marks if at >= 0), largest)
        cut.append(text[:end])
        text = text[end:]
    return [*cut, text] if text else cut
