"""Telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_MONTH, _DAY = r"(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"(?:19|20)\d\d([-./ ]){_MONTH}\1{_DAY}(?!\d\d\d)"
    rf"|(?:{_DAY}[-./ ]{_MONTH}|{_MONTH}[-./ ]{_DAY})[-./ ](?:19|20)\d\d"
)


@dataclass(frozen=True)
class Phone:
    """A telephone number, as it is printed.

    Numbers with a country's prefix are found anywhere; others must be possible ones of the document's country, or
    stand behind a label.

    Example:
        >>> [span.value for span in Phone().spans("Tel. +49 6051 916 44 10, total 12.00", Habits())]
        ['+49 6051 916 44 10']
        >>> [span.value for span in Phone().spans("2015-06-2716:03, 12.03.2019 14:22", Habits())]
        []
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find numbers in a text."""
        if sum(character.isdigit() for character in text) < 6:
            return
        import phonenumbers

        ends = 0
        for region in dict.fromkeys((None, habits.region, "US")):
            leniency = phonenumbers.Leniency.VALID if region == habits.region else phonenumbers.Leniency.POSSIBLE
            for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=leniency):
                if match.start >= ends and _is_written_so(match.raw_string):
                    ends = match.end
                    yield Span(match.start, match.end, match.raw_string, 1.0 if region == habits.region else 0.5)


def _is_written_so(text: str) -> bool:
    """Say whether a number is written as telephone numbers are, and is no sum of money, date or account."""
    digits = sum(character.isdigit() for character in text)
    return 7 <= digits <= 15 and text.count(".") != 1 and not text.count("/") > 1 and not _DATE.match(text)
