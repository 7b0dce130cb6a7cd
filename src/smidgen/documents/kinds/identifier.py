"""Numbers and codes by which something is called: of an invoice, a customer, a passport."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits
from smidgen.documents.kinds.date import Date

_TOKEN = re.compile(r"[^\s:;,|]+")
_SHORT = 4


@dataclass(frozen=True)
class Identifier:
    """A code with figures in it; groups that are set apart by spaces belong together.

    Words without figures are taken only if they are in capitals, and count little.

    Example:
        >>> [span.value for span in Identifier().spans("INV/2023/0008 of DE 232 446 240", Habits())]
        ['INV/2023/0008', 'DE 232 446 240']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find codes in a text."""
        dates = [(span.begin, span.end) for span in Date().spans(text, habits) if span.quality > 0.6]
        tokens = [
            match for match in _TOKEN.finditer(text) if not any(b < match.end() and e > match.start() for b, e in dates)
        ]
        index = 0
        while index < len(tokens):
            last = index
            while last + 1 < len(tokens) and _continues(text, tokens[last], tokens[last + 1]):
                last += 1
            begin, end = tokens[index].start(), tokens[last].end()
            begin, end = _trimmed(text, begin, end)
            quality = _quality(text[begin:end])
            if quality:
                yield Span(begin, end, text[begin:end], quality)
                index = last + 1
            else:
                index += 1


def _continues(text: str, one: re.Match[str], other: re.Match[str]) -> bool:
    """Say whether a token goes on with the code of the token before it."""
    if text[one.end() : other.start()] != " ":
        return False
    first, second = one.group().strip("()#."), other.group().strip("().")
    groups = len(first) <= _SHORT and len(second) <= _SHORT and second.isdigit()
    letters = first.isalpha() and first.isupper()
    dashed = (first.endswith(("-", "/")) and len(first) > 1) or (second.startswith(("-", "/")) and len(second) > 1)
    return (
        (groups and (first.isdigit() or letters))
        or (letters and len(first) <= 3 and second.isdigit())
        or (dashed and any(map(str.isdigit, second)))
    )


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    while begin < end and not text[begin].isalnum():
        begin += 1
    while end > begin and not text[end - 1].isalnum():
        end -= 1
    return begin, end


def _quality(text: str) -> float:
    digits = sum(character.isdigit() for character in text)
    if len(text) < 2 and not digits:
        return 0.0
    if digits:
        money = re.fullmatch(r"[^\w]*\d+[.,]\d{2}", text)
        return 0.3 if money else 0.9 if len(text) > 2 else 0.6
    return 0.5 if len(text) >= 4 and text.isupper() and text.isalpha() else 0.0
