"""Markdown files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.readers._text import read_text
from smidgen.data.readers.txt import pieces
from smidgen.data.rows import Row

_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Md:
    """Markdown: every first-level heading (``# Title``) begins a document; front matter is left out."""

    def read(self, path: Path) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Read the documents of one file, and warnings."""
        text = read_text(path)
        body = _FRONT_MATTER.sub("", text)
        warnings = (f"The front matter of {path.name} was left out.",) if body != text and body.strip() else ()
        sections = _sections(body if body.strip() else text)
        return tuple(Row(piece, origin=path.name) for part in sections for piece in pieces(part)), warnings


def _sections(text: str) -> list[str]:
    """Cut before first-level headings, except inside fenced code."""
    sections = [""]
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        if line.startswith("# ") and not fence:
            sections.append("")
        sections[-1] += line
    return [section for section in sections if section.strip()]
