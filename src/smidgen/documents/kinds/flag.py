"""Yes and no."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits
from smidgen.documents.kinds.choice import CHECKED, UNCHECKED

_YES = r"yes|y|true|ja|oui|s[ií]|sim|tak|da"
_NO = r"no|n|false|nein|nee|non|não|nie|nej"
_WORD = re.compile(rf"(?i)(?<!\w)(?:(?P<yes>{_YES})|(?P<no>{_NO}))(?!\w)")
_MARK = re.compile(rf"(?P<yes>{CHECKED})|(?P<no>{UNCHECKED})")


@dataclass(frozen=True)
class Flag:
    """Yes or no: a word that says so, the checked one of two, or a box alone.

    Example:
        >>> [span.value for span in Flag().spans("[ ] Yes [x] No", Habits())]
        [False]
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find answers in a text."""
        words, marks = list(_WORD.finditer(text)), list(_MARK.finditer(text))
        if words and marks:
            for word in words:
                before = [
                    mark for mark in marks if not text[mark.end() : word.start()].strip() and mark.end() <= word.start()
                ]
                if before and before[-1]["yes"]:
                    yield Span(before[-1].start(), word.end(), bool(word["yes"]))
            return
        for match in words or marks:
            yield Span(match.start(), match.end(), bool(match["yes"]), 0.9)
