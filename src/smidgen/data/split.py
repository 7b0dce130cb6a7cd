"""A corpus divided into what is trained or calibrated on and what is measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

from smidgen.data.rows import Corpus, Row
from smidgen.data.shingles import shingles, words
from smidgen.errors import InvalidInput

MINIMUM_CHARACTERS = 2_000
"""Of the held-out part: about one window of 512 tokens."""
ALLOWED_OVERLAP = 0.1
"""Share of a held-out row's 13-word runs that training rows may also have."""
_FEW_ROWS = 20
_SECTIONS_HELD_OUT = 4


def split(
    corpus: Corpus, *, held_out_share: float = 0.1, seed: int = 0, minimum: int = MINIMUM_CHARACTERS
) -> tuple[Corpus, Corpus]:
    """Divide into a training and a held-out part that share no passages.

    Rows are drawn by the hash of (seed, their words), so equal rows fall on the same side. A corpus of few, long
    texts is divided by section instead. Held-out rows of whose runs of 13 words more than `ALLOWED_OVERLAP` also
    occur in training are removed; runs that more than half of all rows have (the wording of a prompt) do not count.

    Args:
        corpus: What to divide.
        held_out_share: Share of the characters to hold out, above 0 and below 1. Small corpora give more, up to half.
        seed: Another seed draws other rows.
        minimum: Characters that the held-out part must have.

    Returns:
        The training part and the held-out part, rows in their original order.

    Raises:
        InvalidInput: The share is out of range, or the corpus is too small or too repetitive to divide.
    """
    if not 0 < held_out_share < 1:
        raise InvalidInput(f"The held-out share must lie between 0 and 1, not {held_out_share}.")
    if corpus.characters < 2 * minimum:
        raise InvalidInput(
            f"{corpus.name} is too small to keep a part aside for measuring: it has {corpus.characters:,} characters, "
            f"{2 * minimum:,} (about {minimum // 2:,} tokens) are needed.",
            remedy="Give more examples.",
        )
    wanted = min(max(held_out_share * corpus.characters, minimum), corpus.characters / 2)
    by_section = len(corpus.rows) < _FEW_ROWS and all(row.text is not None for row in corpus.rows)
    pieces = _sections(corpus.rows, wanted / _SECTIONS_HELD_OUT) if by_section else list(corpus.rows)
    chosen = _draw(pieces, wanted, seed)
    common = _common(corpus.rows)
    kept = {number for number in range(len(pieces)) if number not in chosen}
    clean = _without_overlap(pieces, chosen, kept, common)
    removed = len(chosen) - len(clean)
    training, held_out = (_joined(pieces, part) if by_section else _picked(pieces, part) for part in (kept, clean))
    size = sum(len(row.plain) for row in held_out)
    if not training or size < minimum // 2:
        raise InvalidInput(
            f"{corpus.name} repeats itself too much to keep a part aside: {size:,} of {round(wanted):,} held-out "
            f"characters are not in the rest as well.",
            remedy=f"Remove repeated rows, or give at least {minimum:,} characters more of different text.",
        )
    noted = (f"{removed:,} held-out rows repeated training rows and were removed.",) if removed else ()
    return (
        corpus.with_rows(training, part="training part"),
        corpus.with_rows(held_out, part="held-out part", warnings=noted),
    )


def overlap(corpus: Corpus, other: Corpus) -> float:
    """Share of the corpus's distinct runs of 13 words that the other corpus has too, 0 to 1.

    Example:
        >>> story = Corpus("story", (Row("once upon a time there was a fox"),))
        >>> overlap(story, story), overlap(story, Corpus("other", (Row("a dog"),)))
        (1.0, 0.0)
    """
    mine, others = _all_shingles(corpus.rows), _all_shingles(other.rows)
    return len(mine & others) / len(mine) if mine else 0.0


class Leakage:
    """Finds rows of which more than `ALLOWED_OVERLAP` stands in a text to be measured on.

    Args:
        held_out: That text.
    """

    def __init__(self, held_out: Corpus) -> None:
        self._others = _all_shingles(held_out.rows)

    def holds(self, row: Row) -> bool:
        """Whether the row may not be trained on."""
        return _shared(row, self._others, frozenset()) > ALLOWED_OVERLAP


def without_overlap(corpus: Corpus, other: Corpus) -> Corpus:
    """Remove the rows of which more than `ALLOWED_OVERLAP` also stands in the other corpus."""
    leakage = Leakage(other)
    return corpus.with_rows(row for row in corpus.rows if not leakage.holds(row))


def _all_shingles(rows: Iterable[Row]) -> frozenset[int]:
    return frozenset().union(*(shingles(row.plain) for row in rows))


def _draw(pieces: list[Row], wanted: float, seed: int) -> set[int]:
    """Numbers of the pieces to hold out: in the order of their hashes, until there are enough characters."""
    keys = [sha256(f"{seed} {' '.join(words(piece.plain))}".encode()).digest() for piece in pieces]
    chosen: set[int] = set()
    size = 0
    last = b""
    for number in sorted(range(len(pieces)), key=lambda number: keys[number]):
        if size >= wanted and keys[number] != last:
            break
        chosen.add(number)
        size += len(pieces[number].plain)
        last = keys[number]
    return chosen


def _common(rows: tuple[Row, ...]) -> frozenset[int]:
    """Runs of words that more than half of many rows have."""
    if len(rows) < _FEW_ROWS:
        return frozenset()
    counts = Counter(shingle for row in rows for shingle in shingles(row.plain))
    return frozenset(shingle for shingle, count in counts.items() if 2 * count > len(rows))


def _without_overlap(pieces: list[Row], chosen: set[int], kept: set[int], common: frozenset[int]) -> set[int]:
    trained = _all_shingles(pieces[number] for number in kept)
    return {number for number in chosen if _shared(pieces[number], trained, common) <= ALLOWED_OVERLAP}


def _shared(row: Row, others: frozenset[int], common: frozenset[int]) -> float:
    mine = shingles(row.plain) - common
    return len(mine & others) / len(mine) if mine else 0.0


def _sections(rows: tuple[Row, ...], size: float) -> list[Row]:
    """Cut texts between paragraphs (or lines, or words) into sections of about ``size`` characters."""
    sections = []
    for row in rows:
        for piece in _cut(row.plain, size):
            sections.append(Row(piece, label=row.label, origin=row.origin))
    return sections


def _cut(text: str, size: float) -> list[str]:
    pieces = []
    start = 0
    while len(text) - start > 1.5 * size:
        aim = start + int(size)
        limit = start + int(1.5 * size)
        ends = (text.find(mark, aim, limit) + len(mark) for mark in ("\n\n", "\n", " ") if mark in text[aim:limit])
        end = next(ends, aim)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def _picked(pieces: list[Row], part: set[int]) -> list[Row]:
    return [pieces[number] for number in sorted(part)]


def _joined(pieces: list[Row], part: set[int]) -> list[Row]:
    """Sections of the same text that stayed neighbours become one row again."""
    rows: list[Row] = []
    before = -2
    for number in sorted(part):
        piece = pieces[number]
        if number == before + 1 and rows[-1].origin == piece.origin and rows[-1].label == piece.label:
            rows[-1] = Row(rows[-1].plain + piece.plain, label=piece.label, origin=piece.origin)
        else:
            rows.append(piece)
        before = number
    return rows
