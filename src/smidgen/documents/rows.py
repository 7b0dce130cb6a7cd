"""Rows of tables: the lines of an invoice or a receipt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.documents.candidates import Candidate, in_segment
from smidgen.documents.habits import Habits
from smidgen.documents.kinds import Kind, build
from smidgen.documents.labels import Label, Labels
from smidgen.documents.layout import Layout, Segment
from smidgen.documents.page import around
from smidgen.documents.row_joining import RowLine, join
from smidgen.documents.schema import Field, Table
from smidgen.documents.vocabulary import concept_of

_ENDS = frozenset({"total", "subtotal", "tax", "discount", "shipping", "paid", "change", "rounding", "tip", "count"})
_PREFIX = "line_"
_NUMERIC = frozenset({"amount", "number"})


@dataclass(frozen=True)
class _Column:
    """A column: the field, what the vocabulary calls it, and where its head stands."""

    field: Field
    name: str
    kind: Kind
    numeric: bool
    left: float = 0.0
    right: float = 0.0


class RowReader:
    """Reads the rows of a table off pages.

    The head of the table is the line in which most of its columns are named; each row's values belong to the column
    that they stand under. Where no head is, as on receipts, a row is a line that begins with words and ends with a
    sum, before the first line of totals.

    Args:
        table: The table of a schema.
    """

    def __init__(self, table: Table) -> None:
        self._columns = [_column(field) for field in table.columns]
        self._labels = Labels({column.name: column.field.labels for column in self._columns})

    def read(self, layout: Layout, habits: Habits) -> list[dict[str, Candidate]]:
        """Return the rows of a page: for each the columns that have a value."""
        labels = self._labels.find(layout)
        header = self._header(labels)
        if header is None:
            return self._without_head(layout, labels, habits)
        line, columns = header
        lines: list[RowLine] = []
        for segments in layout.lines[line + 1 :]:
            if not _is_end(segments, labels):
                lines += self._line(segments, columns, layout, habits)
            elif any(each.figures and len(each.figures) + len(each.words) > 1 for each in lines):
                break
        return join(_in_columns(lines, columns, layout.height), layout.height)

    def _line(
        self, segments: Sequence[Segment], columns: Sequence[_Column], layout: Layout, habits: Habits
    ) -> list[RowLine]:
        """Return what a line has in the columns; nothing where it has words beside them."""
        cells = self._row(segments, columns, layout, habits)
        figures = {
            column.field.path: cells[column.field.path]
            for column in columns
            if column.field.path in cells and column.numeric
        }
        words = {path: each for path, each in cells.items() if path not in figures}
        if not cells or (not figures and len(segments) > len(words)):
            return []
        box = around([segment.box for segment in segments])
        return [RowLine(figures, words, box.top, box.bottom)]

    def _header(self, labels: Sequence[Label]) -> tuple[int, list[_Column]] | None:
        best: tuple[int, list[_Column]] | None = None
        for line in sorted({label.segment.line for label in labels}):
            found: dict[str, _Column] = {}
            for label in (each for each in labels if each.segment.line == line):
                for column in self._columns:
                    if column.name in label.names and (column.field.path not in found or column.numeric):
                        box = label.box
                        found[column.field.path] = _Column(
                            column.field, column.name, column.kind, column.numeric, box.left, box.right
                        )
            if (
                len(found) >= 2
                and any(each.numeric for each in found.values())
                and (best is None or len(found) > len(best[1]))
            ):
                best = line, list(found.values())
        return best

    def _row(
        self, segments: Sequence[Segment], columns: Sequence[_Column], layout: Layout, habits: Habits
    ) -> dict[str, Candidate]:
        row: dict[str, Candidate] = {}
        for segment in segments:
            for column in sorted(columns, key=lambda each: _distance(segment, each)):
                if _distance(segment, column) > 6 * layout.height and column.numeric:
                    continue
                values = list(in_segment(segment, layout.page.number, column.kind.spans(segment.text, habits)))
                if values and column.field.path not in row and _fills(values, segment, column):
                    row[column.field.path] = values[-1]
                    break
        return row

    def _without_head(self, layout: Layout, labels: Sequence[Label], habits: Habits) -> list[dict[str, Candidate]]:
        """Read lines of words that end in a sum, up to the totals."""
        words = next((column for column in self._columns if not column.numeric), None)
        sums = next((column for column in self._columns if column.name == "line_amount"), None)
        if words is None or sums is None:
            return []
        rows: list[dict[str, Candidate]] = []
        above: Candidate | None = None  # words of the line above, which had no sum
        for segments in layout.lines:
            if _is_end(segments, labels):
                if rows:
                    break
                above = None
                continue
            first, last = segments[0], segments[-1]
            values = in_segment(last, layout.page.number, sums.kind.spans(last.text, habits))
            good = [each for each in values if each.quality > 0.8 and each.end >= len(last.text) - 3]
            named = next(in_segment(first, layout.page.number, words.kind.spans(first.text, habits)), None)
            if good and named is not None and first is not last:
                if above is not None and _is_count(first.text) and _follows(above, named, layout.height):
                    named = above
                rows.append({words.field.path: named, sums.field.path: good[-1]})
            above = named if len(segments) == 1 and not good else None
        return rows


def _in_columns(lines: Sequence[RowLine], columns: Sequence[_Column], height: float) -> list[RowLine]:
    """Leave out lines of words that begin left of the column that they would go on in."""
    lefts = {column.field.path: column.left for column in columns}
    for line in lines:
        for path, each in line.words.items() if line.figures else ():
            lefts[path] = min(lefts[path], each.box.left)
    return [
        line
        for line in lines
        if line.figures or all(each.box.left > lefts[path] - 2 * height for path, each in line.words.items())
    ]


def _column(field: Field) -> _Column:
    numeric = field.type in ("number", "integer")
    found = concept_of(field.name) if field.concept is None else field.concept
    line = next((each for each in _line_concepts() if field.labels and field.labels[0] in each[1]), None)
    name = line[0] if line else f"column {field.path}"
    kind = "amount" if numeric and (line is None or line[0] != "line_quantity") else "number" if numeric else field.kind
    if not numeric and kind in _NUMERIC:
        kind = "text"
    if numeric and found is not None and found.kind == "number":
        kind = "number"
    return _Column(
        field, name, build(kind) if kind not in ("choice", "free", "organisation") else build("text"), numeric
    )


def _line_concepts() -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
    from smidgen.documents.vocabulary import concepts

    return [(name, (*each.names, *each.labels)) for name, each in concepts().items() if name.startswith(_PREFIX)]


def _is_end(segments: Sequence[Segment], labels: Sequence[Label]) -> bool:
    """Say whether a line belongs to the totals: what begins it names one of them, and it is no head of a table."""
    line = segments[0].line
    here = [label for label in labels if label.segment.line == line]
    heads = sum(any(name.startswith(_PREFIX) for name in label.names) for label in here)
    return heads < 3 and any(
        _ENDS & set(label.names) and not label.segment.text[: label.begin].strip() and max(label.names.values()) > 0.5
        for label in here
    )


def _is_count(text: str) -> bool:
    """Say whether a text only tells how many at which price, as the second line of an item on a receipt does.

    Example:
        >>> _is_count("2 x 15.50"), _is_count("3 @ RM 4.00"), _is_count("2 x Tea")
        (True, True, False)
    """
    return any(map(str.isdigit, text)) and re.search(r"[^\W\d_]{3,}", text) is None


def _follows(above: Candidate, below: Candidate, height: float) -> bool:
    return below.box.top - above.box.bottom < 1.2 * height


def _distance(segment: Segment, column: _Column) -> float:
    """Return how far a segment lies beside a column's head, 0 where they overlap."""
    return max(0.0, segment.box.left - column.right, column.left - segment.box.right)


def _fills(values: Sequence[Candidate], segment: Segment, column: _Column) -> bool:
    """Say whether figures are most of a segment, so that those within words are not taken for a column's."""
    if not column.numeric:
        return sum(character.isalpha() for character in segment.text) >= 2
    return len(values[-1].text) >= 0.5 * len(segment.text)
