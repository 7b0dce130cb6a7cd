"""Times of day."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3])[:.h]([0-5]\d)(?:[:.]([0-5]\d))?\s?([AaPp]\.?[Mm]\.?)?(?![\d:.,])")


@dataclass(frozen=True)
class Time:
    """A time of day as HH:MM:SS; with a point instead of a colon it counts little.

    Example:
        >>> [span.value for span in Time().spans("at 9:05 pm", Habits())]
        ['21:05:00']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find times in a text."""
        for match in _TIME.finditer(text):
            hour = int(match[1])
            half = (match[4] or "").lower()[:1]
            if half and not 1 <= hour <= 12:
                continue
            hour = hour % 12 + (12 if half == "p" else 0) if half else hour
            surely = ":" in match.group() or bool(half)
            yield Span(match.start(), match.end(), f"{hour:02}:{match[2]}:{match[3] or '00'}", 1.0 if surely else 0.3)
