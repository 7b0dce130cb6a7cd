"""The lines of a page, and their segments: words that stand beside each other without a wide gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from smidgen.documents.page import Box, Page, Word, around

_WIDE_GAP = 1.1
"""Gap between two words that parts them, in heights of the line."""
_SAME_LINE = 0.5


@dataclass(frozen=True)
class Segment:
    """Words of one line without a wide gap between them.

    Attributes:
        words: From left to right.
        line: Number of its line on the page, from 0.
        index: Its number within the line, from 0.
    """

    words: tuple[Word, ...]
    line: int
    index: int

    @cached_property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)

    @cached_property
    def box(self) -> Box:
        """The box around the words, of the straight page."""
        return around([word.straight for word in self.words])

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each word begins in ``text``."""
        places, place = [], 0
        for word in self.words:
            places.append(place)
            place += len(word.text) + 1
        return tuple(places)

    def between(self, begin: int, end: int) -> tuple[Word, ...]:
        """Return the words that a part of ``text`` touches."""
        return tuple(
            word
            for word, start in zip(self.words, self.starts, strict=True)
            if start < end and start + len(word.text) > begin
        )


@dataclass(frozen=True)
class Layout:
    """A page's words in lines.

    Attributes:
        page: The page.
        lines: From top to bottom, each from left to right.
    """

    page: Page
    lines: tuple[tuple[Segment, ...], ...]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """All segments, line by line."""
        return tuple(segment for line in self.lines for segment in line)

    @cached_property
    def height(self) -> float:
        """The usual height of a word; 1 on an empty page."""
        return median([word.straight.height for word in self.page.words]) if self.page.words else 1.0

    @cached_property
    def text(self) -> str:
        """The page's text, a line for each line, with wider gaps between segments."""
        return "\n".join("  ".join(segment.text for segment in line) for line in self.lines)

    def below(self, box: Box, reach: float) -> list[Segment]:
        """Return the segments that begin under a box, the nearest first.

        Args:
            box: Of the straight page.
            reach: How far under it, in usual heights of a word.
        """
        far = box.bottom + reach * self.height
        found = [
            segment
            for segment in self.segments
            if box.middle < segment.box.top + 0.3 * segment.box.height
            and segment.box.top <= far
            and segment.box.overlap_across(box) > 0.25
        ]
        return sorted(found, key=lambda segment: (segment.box.top, segment.box.left))


def lay_out(page: Page) -> Layout:
    """Bring a page's words into lines.

    A word belongs to the line whose middle it lies nearest to, if it overlaps it enough; columns beside each other
    share their lines, as a reader's eye takes them.

    Example:
        >>> from smidgen.documents.page import Box
        >>> def word(text, left, top):
        ...     box = Box(left, top, left + 8 * len(text), top + 10)
        ...     return Word(text, box, box)
        >>> words = (word("10.00", 200, 1), word("Total", 0, 0), word("Thanks", 0, 20))
        >>> print(lay_out(Page(1, 300, 100, "px", words, "text")).text)
        Total  10.00
        Thanks
    """
    rows: list[list[Word]] = []
    middles: list[Box] = []
    for word in sorted(page.words, key=lambda word: (word.straight.middle, word.straight.left)):
        fitting = _fitting(word.straight, middles)
        if fitting is None:
            rows.append([word])
            middles.append(word.straight)
        else:
            rows[fitting].append(word)
            middles[fitting] = _core(rows[fitting])
    order = sorted(range(len(rows)), key=lambda index: middles[index].middle)
    lines = []
    for number, index in enumerate(order):
        parts = _parted(sorted(rows[index], key=lambda word: word.straight.left))
        lines.append(tuple(Segment(tuple(words), number, place) for place, words in enumerate(parts)))
    return Layout(page, tuple(lines))


def _fitting(box: Box, middles: Sequence[Box]) -> int | None:
    """Return the number of the line that a word belongs to; only the last few can be near."""
    best, least = None, 1e9
    for index in range(max(0, len(middles) - 6), len(middles)):
        line = middles[index]
        apart = abs(line.middle - box.middle)
        if apart < _SAME_LINE * min(line.height, box.height) and apart < least:
            best, least = index, apart
    return best


def _core(words: Sequence[Word]) -> Box:
    """Return a line's box with the usual top and bottom of its words, which one tall word does not change."""
    whole = around([word.straight for word in words])
    tops, bottoms = median(word.straight.top for word in words), median(word.straight.bottom for word in words)
    return Box(whole.left, tops, whole.right, bottoms)


def _parted(words: Sequence[Word]) -> list[list[Word]]:
    parts: list[list[Word]] = []
    for word in words:
        if parts:
            before = parts[-1][-1].straight
            if word.straight.left - before.right <= _WIDE_GAP * min(before.height, word.straight.height):
                parts[-1].append(word)
                continue
        parts.append([word])
    return parts
