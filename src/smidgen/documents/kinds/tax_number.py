"""Numbers under which firms are registered for taxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_EUROPEAN = re.compile(
    r"(?<![A-Z0-9])(?:ATU|AT U|BE|BG|CY|CZ|DE|DK|EE|EL|ES|FI|FR|GB|HR|HU|IE|IT|LT|LU|LV|MT|NL|PL|PT|RO|SE|SI|SK|CHE)"
    r"[ .-]?(?=[A-Z0-9. -]*\d)[A-Z0-9](?:[ .-]?[A-Z0-9]){6,13}(?![A-Z0-9])"
)
_INDIAN = re.compile(r"(?<![A-Z0-9])\d{2}[A-Z]{5}\d{4}[A-Z]\d?[A-Z0-9]Z[A-Z0-9](?![A-Z0-9])")
_OTHER = re.compile(
    r"(?<![A-Z0-9/.,])(?:[A-Z]{0,3}[- ]?\d[\d -]{5,16}\d|\d{6,15}|[A-Z0-9]{2,}\d{5,}[A-Z0-9]*)(?![A-Z0-9/.,]\d)"
)


@dataclass(frozen=True)
class TaxNumber:
    """A number for value added tax or another tax.

    European numbers are checked; others are taken where they stand behind a label.

    Example:
        >>> [span.value for span in TaxNumber().spans("BTW NL810433941B01", Habits())]
        ['NL810433941B01']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find numbers in a text."""
        from stdnum.eu import vat

        taken: list[tuple[int, int]] = []
        for pattern in (_INDIAN, _EUROPEAN, _OTHER):
            for match in pattern.finditer(text):
                begin, end = match.span()
                if any(begin < last and end > first for first, last in taken):
                    continue
                valid = pattern is _INDIAN or (pattern is _EUROPEAN and vat.is_valid(match.group()))
                taken.append((begin, end))
                yield Span(begin, end, " ".join(match.group().split()), 1.0 if valid else 0.45)
