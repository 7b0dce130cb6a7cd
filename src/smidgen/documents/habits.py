"""How a document writes numbers and dates, told from what it says itself."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

_POINT = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})*\.\d{2}(?![\d.,])|(?<![\d.,])\d+\.\d{2}(?![\d.,])")
_COMMA = re.compile(r"(?<![\d.,])\d{1,3}(?:[. ]\d{3})*,\d{2}(?![\d.,])|(?<![\d.,])\d+,\d{2}(?![\d.,])")
_NUMERIC_DATE = re.compile(r"(?<!\d)(\d{1,2})[/.-](\d{1,2})[/.-](?:\d{4}|\d{2})(?!\d)")
_STATES = re.compile(
    r"\b(?:A[LKZR]|C[AOT]|DE|FL|GA|I[DLNA]|K[SY]|M[DEINOST]|N[CDEHJMVY]|"
    r"O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]),? \d{5}\b"
)
_AMERICAN = re.compile(r"\bUSA\b|\bU\.S\.A?\.?|United States|US Dollar|\bSales Tax\b|\bEIN\b", re.IGNORECASE)
_ELSEWHERE = re.compile(
    r"\b(?:VAT|GST|TVA|MwSt|USt|BTW|IVA|IBAN|GmbH|B\.V\.|Sdn|Bhd|Pvt|Ltd|Limited|PLC|Pty)\b|[€£₹]|\bRM ?\d|\bRs\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Habits:
    """How a document writes.

    Attributes:
        decimal: The mark before the cents.
        order: Whether the day or the month stands first in a date of figures only.
        region: Two letters of the country that telephone numbers without a prefix are of, None where unknown.
    """

    decimal: Literal[".", ","] = "."
    order: Literal["DMY", "MDY"] = "DMY"
    region: str | None = None


def habits_of(text: str) -> Habits:
    """Tell a document's habits from its text.

    Dates decide the order of day and month where one of them has a part above 12; otherwise the United States, when
    the text speaks of them and of no other country's money or taxes, put the month first.

    Example:
        >>> habits_of("Date 03/20/2023, total 1.234,50")
        Habits(decimal=',', order='MDY', region=None)
    """
    points, commas = len(_POINT.findall(text)), len(_COMMA.findall(text))
    orders: Counter[str] = Counter()
    for first, second in _NUMERIC_DATE.findall(text):
        if int(first) > 12 >= int(second):
            orders["DMY"] += 1
        elif int(second) > 12 >= int(first):
            orders["MDY"] += 1
    american = bool(_STATES.search(text) or _AMERICAN.search(text)) and not _ELSEWHERE.search(text)
    first_month = orders["MDY"] > orders["DMY"] or (orders["MDY"] == orders["DMY"] and american)
    return Habits("," if commas > points else ".", "MDY" if first_month else "DMY", "US" if american else None)
