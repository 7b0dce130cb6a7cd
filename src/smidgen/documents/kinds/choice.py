"""One of several values that a schema lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

CHECKED = r"\[\s?[xX✓✔]\s?\]|\(\s?[xX✓✔•●]\s?\)|[☒☑✓✔✗✘■●◉⊠]"
UNCHECKED = r"\[\s?\]|\(\s?\)|[☐□○◯❏❑]"
_MARK = re.compile(rf"(?P<checked>{CHECKED})|(?P<unchecked>{UNCHECKED})")


@dataclass(frozen=True)
class Choice:
    """One of the values that a schema's ``enum`` lists; where boxes stand beside them, the checked one.

    Attributes:
        options: The values.

    Example:
        >>> [span.value for span in Choice(("male", "female")).spans("[ ] Male [x] Female", Habits())]
        ['female']
    """

    options: tuple[Any, ...] = ()

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find the values in a text."""
        marks = list(_MARK.finditer(text))
        for option in sorted(self.options, key=lambda each: -len(str(each))):
            spelled = re.escape(str(option).replace("_", " ")).replace(r"\ ", r"[\s_-]+")
            for match in re.finditer(rf"(?i)(?<!\w){spelled}(?!\w)", text):
                begin = match.start()
                before = [mark for mark in marks if mark.end() <= begin and not text[mark.end() : begin].strip()]
                if marks and not (before and before[-1]["checked"]):
                    continue
                yield Span(before[-1].start() if before else begin, match.end(), option, 1.0 if before else 0.8)
