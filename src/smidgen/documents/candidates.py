"""What may be the value of a field: something that stands on a page, with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from smidgen.documents.layout import Layout, Segment
from smidgen.documents.page import Box, Word, around


@dataclass(frozen=True)
class Span:
    """A value within a text.

    Attributes:
        begin: Where it begins.
        end: Where it ends.
        value: What it means: a number, an ISO date, a cleaned text.
        quality: How surely the text is a value of its kind, 0 to 1.
    """

    begin: int
    end: int
    value: Any
    quality: float = 1.0


@dataclass(frozen=True)
class Candidate:
    """A value on a page.

    Attributes:
        value: What it means.
        text: What stands on the page.
        words: The words that say so.
        page: Number of the page.
        segment: The segment that it begins in.
        begin: Where it begins in the segment's text.
        end: Where it ends there.
        quality: How surely it is a value of its kind, 0 to 1.
        unlabelled: Log-odds that it is the value of a field of its kind that has no label.
    """

    value: Any
    text: str
    words: tuple[Word, ...]
    page: int
    segment: Segment
    begin: int
    end: int
    quality: float = 1.0
    unlabelled: float = 0.0

    @cached_property
    def box(self) -> Box:
        """Where it stands on the straight page."""
        return around([word.straight for word in self.words])

    @cached_property
    def score(self) -> float:
        """How sure the reader is of its words, 0 to 1."""
        return sum(word.score for word in self.words) / len(self.words)


Finder = Callable[[str], Iterable[Span]]
"""Finds values in a text."""


def in_segment(segment: Segment, page: int, spans: Iterable[Span]) -> Iterator[Candidate]:
    """Turn spans of a segment's text into candidates."""
    for span in spans:
        words = segment.between(span.begin, span.end)
        if words:
            text = segment.text[span.begin : span.end]
            yield Candidate(span.value, text, words, page, segment, span.begin, span.end, span.quality)


def in_every_segment(layout: Layout, find: Finder) -> Iterator[Candidate]:
    """Look for values in every segment of a page."""
    for segment in layout.segments:
        yield from in_segment(segment, layout.page.number, find(segment.text))
