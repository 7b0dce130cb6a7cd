"""Addresses of electronic mail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_MAIL = re.compile(r"[A-Za-z0-9][\w.+-]*@[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


@dataclass(frozen=True)
class Email:
    """An address of electronic mail.

    Example:
        >>> [span.value for span in Email().spans("Mail: Info@example.org.", Habits())]
        ['Info@example.org']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find addresses in a text."""
        for match in _MAIL.finditer(text):
            yield Span(match.start(), match.end(), match.group())
