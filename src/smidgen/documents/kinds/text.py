"""Words: whatever stands where a label points."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_EDGES = " \t:;,.|_-–—=*#"


@dataclass(frozen=True)
class Text:
    """A run of words without the marks around it.

    Example:
        >>> [span.value for span in Text().spans(": Anna Lee ____", Habits())]
        ['Anna Lee']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Return the text as one value, nothing where no letter or figure is left."""
        begin, end = 0, len(text)
        while begin < end and text[begin] in _EDGES:
            begin += 1
        while end > begin and text[end - 1] in _EDGES.replace(".", ""):
            end -= 1
        if re.search(r"\w", text[begin:end].replace("_", "")):
            yield Span(begin, end, " ".join(text[begin:end].split()), 0.8)
