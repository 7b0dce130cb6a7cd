"""Dates, in figures and with the months' names of many languages."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_LANGUAGES = (
    "en",
    "de",
    "fr",
    "nl",
    "es",
    "it",
    "pt",
    "pl",
    "sv",
    "da",
    "nb",
    "fi",
    "cs",
    "tr",
    "ms",
    "id",
    "ro",
    "hu",
)
_FIGURES = re.compile(
    r"(?<!\d)(?<!\d[.,/])(?P<first>\d{1,2})\s?(?P<mark>[/.\-])\s?(?P<second>\d{1,2})\s?(?P=mark)\s?"
    r"(?P<year>\d{4}(?=\d\d:\d\d)|(?:\d{4}|\d{2})(?!\d))(?!/\d)"
)
_YEAR_FIRST = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d{2})\s?(?P<mark>[/.\-])\s?(?P<second>\d{1,2})\s?(?P=mark)\s?"
    r"(?P<first>\d{2}(?=\d\d:\d\d)|\d{1,2}(?!\d))"
)
_COMPACT = re.compile(r"(?<!\d)(?P<year>20\d{2})(?P<second>0[1-9]|1[0-2])(?P<first>0[1-9]|[12]\d|3[01])(?!\d)")
_MONTH = r"[^\W\d_]{3,12}"
_WORDED = re.compile(
    rf"(?<![\w/])(?:\d{{1,2}}(?:st|nd|rd|th)?[.\s]*(?:de |of |d')?[\s\-/.]?{_MONTH}\.?[\s,\-/.']*"
    rf"(?:de |del )?(?:\d{{4}}|\d{{2}})"
    rf"|{_MONTH}\.?\s?\d{{1,2}}(?:st|nd|rd|th)?\s?,?\s?\d{{4}})(?!\w)"
)
_CHINESE = re.compile(r"(?P<year>\d{4})\s?年\s?(?P<second>\d{1,2})\s?月\s?(?P<first>\d{1,2})\s?日")
_MISREAD = re.compile(r"(?<!\w)0(?=(?:[ck]t|ctober|ktober|ctobre|ctubre)(?!\w))", re.IGNORECASE)
"""A nought that stands for the letter at the beginning of October."""
_EARLIEST, _LATEST = 1900, 2100


@dataclass(frozen=True)
class Date:
    """A day, as ISO 8601 writes it.

    Two figures of a year stand for the years from 1970 to 2069.

    Example:
        >>> [span.value for span in Date().spans("04/05/2024, 19 april 2014, August 3 , 2014", Habits())]
        ['2024-05-04', '2014-04-19', '2014-08-03']
        >>> [span.value for span in Date().spans("2015-06-2716:03, 27/06/201516:03, 0ct 14, 2016", Habits())]
        ['2015-06-27', '2015-06-27', '2016-10-14']
        >>> [span.value for span in Date().spans("04/05/2024", Habits(order="MDY"))]
        ['2024-04-05']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find dates in a text, none within another."""
        taken: list[tuple[int, int]] = []
        text = _MISREAD.sub("O", text)
        for pattern in (_YEAR_FIRST, _CHINESE, _FIGURES, _WORDED, _COMPACT):
            for match in pattern.finditer(text):
                begin, end = match.span()
                if any(begin < other and end > first for first, other in taken):
                    continue
                value = _worded(match.group()) if pattern is _WORDED else _figures(match, pattern, habits)
                if value is not None:
                    taken.append((begin, end))
                    yield Span(begin, end, value, 0.5 if pattern is _COMPACT else 1.0)


def _figures(match: re.Match[str], pattern: re.Pattern[str], habits: Habits) -> str | None:
    first, second, year = int(match["first"]), int(match["second"]), int(match["year"])
    if year < 100:
        year += 2000 if year < 70 else 1900
    day, month = first, second
    if pattern is _FIGURES and (habits.order == "MDY" or month > 12):
        day, month = second, first
    return _iso(year, month, day) or (_iso(year, day, month) if pattern is _FIGURES else None)


def _iso(year: int, month: int, day: int) -> str | None:
    try:
        return datetime.date(year, month, day).isoformat() if _EARLIEST <= year <= _LATEST else None
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _worded(text: str) -> str | None:
    """Read a date with a month's name; None where the word is no month's."""
    import dateparser

    cleaned = re.sub(r"(?i)(?<=\d)(?:st|nd|rd|th)\b|\b(?:de|del|of)\b|[.,'/-]", " ", text)
    settings = {"REQUIRE_PARTS": ["day", "month", "year"], "PARSERS": ["absolute-time"], "DATE_ORDER": "DMY"}
    if not _month_word(cleaned):
        return None
    found = dateparser.parse(" ".join(cleaned.split()), languages=list(_LANGUAGES), settings=settings)
    return _iso(found.year, found.month, found.day) if found else None


def _month_word(text: str) -> bool:
    """Say whether a text's only word may be the name of a month."""
    words = re.findall(r"[^\W\d_]+", text)
    return len(words) == 1 and words[0].lower()[:3] in _beginnings()


@lru_cache(maxsize=1)
def _beginnings() -> frozenset[str]:
    """Return the first three letters of the months' names in every language that is read."""
    from dateparser.languages.loader import default_loader

    months = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ]
    found = set()
    for locale in default_loader.get_locales(languages=list(_LANGUAGES)):
        for month in months:
            found |= {name.lower()[:3] for name in locale.info.get(month, ()) if len(name) >= 3}
    return frozenset(found)
