"""Addresses of web sites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_ENDINGS = (
    "com|org|net|de|fr|nl|be|at|ch|it|es|eu|uk|ie|us|ca|au|nz|"
    "in|my|sg|io|co|info|biz|gov|edu|shop|store|pl|se|dk|no|fi|cz|pt|br|za"
)
_SITE = re.compile(
    rf"(?<![\w@.])(?:https?://[^\s,;)]+|www\.[^\s,;)]+|"
    rf"[A-Za-z0-9][A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.(?:{_ENDINGS})(?![\w@.-])(?:/[^\s,;)]*)?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Website:
    """The address of a web site, with or without ``http://`` or ``www.``.

    Example:
        >>> [span.value for span in Website().spans("See www.example.org, or mail a@b.com", Habits())]
        ['www.example.org']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find addresses in a text."""
        for match in _SITE.finditer(text):
            found = match.group().rstrip(".")
            plain = not found.lower().startswith(("http", "www."))
            yield Span(match.start(), match.start() + len(found), found, 0.7 if plain else 1.0)
