"""Rows that hardly differ, found by MinHash."""

from __future__ import annotations

from typing import Any

from smidgen.data.rows import Row
from smidgen.data.shingles import words

PERMUTATIONS, BANDS, SEED = 128, 32, 1
WORDS_PER_RUN = 5
LONG_ENOUGH = 20
"""Words from which a row is compared at all: of fewer, one changed word changes most runs."""


class NearDuplicates:
    """Remembers rows and finds later ones that are like them.

    Two rows are alike where the estimated Jaccard similarity of their runs of five words reaches a threshold. The
    estimate comes from 128 hashes (standard error at most 0.045), candidates from 32 bands of four of them, so of
    pairs at 0.8 one in a hundred million is missed. Computed by the package rensa. Source: Broder 1997.

    Args:
        similarity: From which rows count as alike, above 0 to 1.

    Example:
        >>> seen, text = NearDuplicates(0.8), " ".join(f"word{number}" for number in range(100))
        >>> [seen.has_like(Row(each)) for each in (text, text + " more", "other " * 30)]
        [False, True, False]
    """

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity
        self._seen: dict[str, Any] = {}
        self._count = 0

    def has_like(self, row: Row) -> bool:
        """Whether a row like this one was seen; remembers it when not. Short rows are like none."""
        from rensa import RMinHash, RMinHashDeduplicator

        found = words(row.plain)
        if len(found) < LONG_ENOUGH:
            return False
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
        sketch.update([" ".join(found[at : at + WORDS_PER_RUN]) for at in range(len(found) - WORDS_PER_RUN + 1)])
        kind = _kind(row)
        if kind not in self._seen:
            self._seen[kind] = RMinHashDeduplicator(self.similarity, PERMUTATIONS, True, BANDS, SEED)
        self._count += 1
        return not self._seen[kind].add(str(self._count), sketch)


def _kind(row: Row) -> str:
    """Rows of different kinds are never near duplicates: their label or their short answer differs."""
    answer = words(row.turns[-1].content) if row.turns else []
    return f"{row.label!r} {' '.join(answer) if len(answer) < LONG_ENOUGH else ''}"
