"""Names of people and buyers, as labels point to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits
from smidgen.documents.kinds.text import Text

_FIGURES = re.compile(r"\d")


@dataclass(frozen=True)
class Person:
    """A name: words of letters, none with figures.

    Example:
        >>> [span.value for span in Person().spans("Ms Anna Lee", Habits())]
        ['Ms Anna Lee']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Return the name that a text is, nothing where it is none."""
        for span in Text().spans(text, habits):
            words = str(span.value).split()
            if len(words) <= 7 and not _FIGURES.search(str(span.value)) and any(len(word) > 1 for word in words):
                begins = sum(word[:1].isupper() for word in words)
                yield Span(span.begin, span.end, span.value, 0.9 if 2 * begins >= len(words) else 0.5)
