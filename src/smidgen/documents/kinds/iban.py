"""International bank account numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_IBAN = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Z0-9])")


@dataclass(frozen=True)
class Iban:
    """An international bank account number without spaces; one whose check digits are wrong counts half.

    Example:
        >>> [(span.value, span.quality) for span in Iban().spans("IBAN NL50 INGB 0683 2513 09", Habits())]
        [('NL50INGB0683251309', 1.0)]
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find numbers in a text."""
        from stdnum import iban

        for match in _IBAN.finditer(text):
            end = match.end()
            # What follows a number may look like a group of it: the longest part whose check digits are right counts.
            while end - match.start() >= 15:
                part = text[match.start() : end]
                if iban.is_valid(part, check_country=False):
                    yield Span(match.start(), end, part.replace(" ", ""))
                    break
                end = match.start() + max(part.rfind(" "), 0)
            else:
                yield Span(match.start(), match.end(), match.group().replace(" ", ""), 0.5)
