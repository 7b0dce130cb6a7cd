"""Plain numbers: counts, measures, shares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_NUMBER = re.compile(
    r"(?<![\w.,/])[-–−]?\d{1,3}(?:[., ']\d{3})+(?:[.,]\d+)?(?![\w/]|[.,]\d)|"
    r"(?<![\w.,/])[-–−]?\d+(?:[.,]\d+)?(?![/]|[.,:]\d)"
)


@dataclass(frozen=True)
class Number:
    """A number that is no sum of money; what stands behind it (``kg``, ``%``) is no part of it.

    Example:
        >>> [span.value for span in Number().spans("12 items, 3.5 kg, 15%", Habits())]
        [12.0, 3.5, 15.0]
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find numbers in a text."""
        for match in _NUMBER.finditer(text):
            figures = re.sub(r"[ ']", "", match.group()).replace("–", "-").replace("−", "-")
            thousands = "," if habits.decimal == "." else "."
            if re.fullmatch(
                rf"-?\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+(?:{re.escape(habits.decimal)}\d+)?", figures
            ):
                figures = figures.replace(thousands, "")
            figures = figures.replace(",", ".")
            if figures.count(".") <= 1:
                yield Span(match.start(), match.end(), float(figures), 0.8)
