"""Rows of a table that take several lines: which lines are one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from smidgen.documents.candidates import Candidate

_NEAR = 1.1
"""Gap below a row, in heights of a word, from which on what follows is no part of it."""
_CLEARLY = 1.4
"""How many times wider a gap must be than another to tell which row a line belongs to."""


@dataclass(frozen=True)
class RowLine:
    """What a line has in the columns of a table.

    Attributes:
        figures: The columns of numbers that have a value, by their paths.
        words: The columns of words that have one.
        top: Upper edge of the line.
        bottom: Lower edge.
    """

    figures: Mapping[str, Candidate]
    words: Mapping[str, Candidate]
    top: float
    bottom: float


@dataclass
class _Row:
    """A row that further lines may belong to."""

    bottom: float
    figures: dict[str, Candidate] = field(default_factory=dict)
    words: dict[str, Candidate] = field(default_factory=dict)

    def add(self, line: RowLine) -> None:
        self.figures |= line.figures
        for path, each in line.words.items():
            self.words[path] = followed_by(self.words[path], each) if path in self.words else each
        self.bottom = line.bottom


def join(lines: Sequence[RowLine], height: float) -> list[dict[str, Candidate]]:
    """Bring the lines below a table's head together to rows.

    A line of words alone belongs to the row before it, or, in tables whose figures stand on a row's last line, to the
    one after it. A line of figures alone belongs to the row before it where that lacks just these.

    Args:
        lines: The lines with values, from top to bottom.
        height: The usual height of a word.

    Returns:
        For each row that has a number and something beside it, the columns with a value.
    """
    last = _figures_come_last(lines)
    rows: list[_Row] = []
    for line in lines:
        row = rows[-1] if rows and line.top - rows[-1].bottom <= _NEAR * height else None
        if row is not None and _belongs(line, row, last):
            row.add(line)
        elif line.figures or last:
            rows.append(_Row(line.bottom, dict(line.figures), dict(line.words)))
    return [{**row.words, **row.figures} for row in rows if row.figures and len(row.words) + len(row.figures) > 1]


def _belongs(line: RowLine, row: _Row, last: bool) -> bool:
    if not line.figures:
        return not (last and row.figures)
    is_rest = not line.figures.keys() & row.figures.keys()
    return is_rest and (not line.words or (last and not row.figures))


def _figures_come_last(lines: Sequence[RowLine]) -> bool:
    """Say whether words without figures belong to the figures below them: by the gaps, else by how the table begins."""
    votes = sum(_votes(lines))
    if votes or not lines:
        return votes > 0
    return not lines[0].figures and bool(lines[-1].figures)


def _votes(lines: Sequence[RowLine]) -> Iterator[int]:
    for above, line, below in zip(lines, lines[1:], lines[2:], strict=False):
        if not line.figures:
            before, after = max(0.1, line.top - above.bottom), max(0.1, below.top - line.bottom)
            yield (before > _CLEARLY * after) - (after > _CLEARLY * before)


def followed_by(one: Candidate, other: Candidate) -> Candidate:
    """Return words that go on in another line as one value."""
    return replace(
        one,
        value=f"{one.value} {other.value}",
        text=f"{one.text} {other.text}",
        words=one.words + other.words,
        quality=min(one.quality, other.quality),
    )
