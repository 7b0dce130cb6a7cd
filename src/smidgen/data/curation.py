"""A corpus made cleaner: repeated rows, rows that say nothing and stuttering lines go."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from smidgen.data.rows import Corpus, Row
from smidgen.data.shingles import shingles, words
from smidgen.errors import InvalidInput

_SKETCH = 64
_WORDS_PER_RUN = 5
_LONG_ENOUGH = 20
_MOST_NEIGHBOURS = 50
_STUTTER = re.compile(r"^([^\n]*\w[^\n]*)(?:\n\1){2,}$", re.MULTILINE)


@dataclass(frozen=True)
class CurationReport:
    """What was removed.

    Attributes:
        exact: Rows with the same words (case, punctuation and spaces aside) and the same label as an earlier one.
        near: Rows that hardly differ from an earlier one.
        short: Plain texts of too few words.
        lines: Lines that repeated the line before at least twice.
    """

    exact: int = 0
    near: int = 0
    short: int = 0
    lines: int = 0

    def sentences(self) -> tuple[str, ...]:
        """What was removed, for a person; nothing removed gives nothing.

        Example:
            >>> CurationReport(exact=2, lines=1).sentences()
            ('2 duplicate rows were removed.', '1 repeated line was removed.')
        """
        counted = (
            (self.exact, "duplicate row"),
            (self.near, "nearly duplicate row"),
            (self.short, "very short row"),
            (self.lines, "repeated line"),
        )
        return tuple(
            f"{count:,} {what}{' was' if count == 1 else 's were'} removed." for count, what in counted if count
        )


def curate(corpus: Corpus, *, minimum_words: int = 3, similarity: float = 0.8) -> tuple[Corpus, CurationReport]:
    """Remove duplicates, near duplicates, very short plain texts and stuttering lines.

    Near duplicates are found by the 64 smallest hashes of each row's runs of five words (a bottom-k sketch, Broder
    1997), among rows of 20 words or more with the same label and the same short answer; the first of them stays.

    Args:
        corpus: What to clean.
        minimum_words: Plain texts with fewer words go.
        similarity: Estimated Jaccard similarity, above 0 to 1, from which a row counts as a near duplicate.

    Returns:
        The cleaner corpus, with the report among its warnings, and the report.

    Raises:
        InvalidInput: ``similarity`` is out of range, or no row remains.
    """
    if not 0 < similarity <= 1:
        raise InvalidInput(f"The similarity must lie above 0 and at most at 1, not {similarity}.")
    exact, near, short, lines = 0, 0, 0, 0
    seen: set[tuple[str, str | None]] = set()
    sketches = _Sketches(similarity)
    rows: list[Row] = []
    for original in corpus.rows:
        row, repeated = _without_stutter(original)
        lines += repeated
        found = words(row.plain)
        key = (" ".join(found) if found else row.plain.strip(), row.label)
        if row.text is not None and len(found) < minimum_words and row.label is None:
            short += 1
        elif key in seen:
            exact += 1
        elif len(found) >= _LONG_ENOUGH and sketches.has_like(row):
            near += 1
        else:
            rows.append(row)
        seen.add(key)
    if not rows:
        raise InvalidInput(
            f"No row of {corpus.name} remains after cleaning.",
            remedy=f"Give texts of at least {minimum_words} words, or load them without removing duplicates.",
        )
    report = CurationReport(exact, near, short, lines)
    return corpus.with_rows(rows, warnings=report.sentences()), report


class _Sketches:
    """The sketches of the rows kept so far, found by any hash they share."""

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity
        self.sketches: list[frozenset[int]] = []
        self.holders: dict[tuple[str, int], list[int]] = {}

    def has_like(self, row: Row) -> bool:
        """Whether a row like this one was seen; remembers it when not."""
        runs = shingles(row.plain, _WORDS_PER_RUN)
        sketch = frozenset(sorted(runs)[:_SKETCH])
        kind = _kind(row)
        neighbours = {number for run in sketch for number in self.holders.get((kind, run), ())}
        if any(self._similarity(sketch, self.sketches[number]) >= self.similarity for number in neighbours):
            return True
        for run in sketch:
            holders = self.holders.setdefault((kind, run), [])
            if len(holders) < _MOST_NEIGHBOURS:
                holders.append(len(self.sketches))
        self.sketches.append(sketch)
        return False

    @staticmethod
    def _similarity(one: frozenset[int], other: frozenset[int]) -> float:
        smallest = sorted(one | other)[:_SKETCH]
        return len(one & other & frozenset(smallest)) / len(smallest)


def _kind(row: Row) -> str:
    """Rows of different kinds are never near duplicates: their label or their short answer differs."""
    answer = words(row.turns[-1].content) if row.turns else []
    return f"{row.label!r} {' '.join(answer) if len(answer) < _LONG_ENOUGH else ''}"


def _without_stutter(row: Row) -> tuple[Row, int]:
    """Make one line of three or more equal lines in a row."""
    if row.text is None:
        return row, 0
    text = _STUTTER.sub(r"\1", row.text)
    return (replace(row, text=text), row.text.count("\n") - text.count("\n")) if text != row.text else (row, 0)
