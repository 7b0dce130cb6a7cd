"""Sums of money."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.documents.candidates import Span
from smidgen.documents.habits import Habits

_MONEY = (
    r"[€$£¥₹₩₽฿]|(?:US|S|A|C|NZ|HK|R)\$|(?<![A-Za-z])(?:EUR|USD|GBP|CHF|CAD|AUD|NZD|SGD|HKD|MYR|INR|JPY|"
    r"CNY|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|THB|IDR|PHP|AED|TRY|Rs|RM|kr|zł|Kč|Fr)(?![A-Za-z])\.?"
)
_NUMBER = re.compile(
    rf"(?P<before>(?:{_MONEY})\s{{0,2}})?(?P<sign>[-–−(])?\s?(?P<inner>(?:{_MONEY})\s{{0,2}})?"
    r"(?P<number>\d{1,3}(?:[.,' \u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?|\d+(?:\s?[.,]\s?\d{1,2})?|[.,]\d{2})"
    rf"(?P<dash>[.,][-–—]+)?(?P<after>\s{{0,2}}(?:{_MONEY}))?(?P<minus>-|\))?"
)


@dataclass(frozen=True)
class Amount:
    """A sum of money: figures with cents, or whole ones beside a currency's sign.

    Whole figures without a currency count little, and are only taken behind a label.

    Example:
        >>> [span.value for span in Amount().spans("2 x € 1.234,50 = EUR 2.469,00 on 12.05.2024", Habits(","))]
        [2.0, 1234.5, 2469.0]
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find sums in a text."""
        for match in _NUMBER.finditer(text):
            begin, end = match.span()
            value = _value(match["number"], habits)
            if value is None or _is_part(text, match):
                continue
            has_money = bool(match["before"] or match["inner"] or match["after"])
            has_cents = bool(re.search(r"[.,]\s?\d{2}$", match["number"])) or bool(match["dash"])
            quality = 1.0 if has_money and has_cents else 0.95 if has_cents else 0.9 if has_money else 0.35
            negative = match["sign"] in ("-", "–", "−") or match["minus"] == "-"
            negative = negative or (match["sign"] == "(" and match["minus"] == ")")
            if match["sign"] == "(" and match["minus"] != ")":
                begin = match.start("inner") if match["inner"] else match.start("number")
            elif match["minus"] == ")" and match["sign"] != "(":
                end -= 1
            yield Span(begin, end, -value if negative else value, quality)


def _value(digits: str, habits: Habits) -> float | None:
    from price_parser import Price

    compact = re.sub(r"[\s'\u00a0\u202f]", "", digits)
    mark: str | None = habits.decimal
    if re.search(r"[.,]\d{1,2}$", compact):
        mark = compact[-3] if compact[-3:-2] in (".", ",") else compact[-2]
    elif re.search(r"[.,]\d{3}$", compact):
        mark = "," if compact[-4] == "." else "."
    price = Price.fromstring(compact, decimal_separator=mark)
    return None if price.amount is None or price.amount >= 10**12 else float(price.amount)


def _is_part(text: str, match: re.Match[str]) -> bool:
    """Say whether the figures belong to something longer: a date, a share, a number of an order."""
    begin, end = match.start("number"), match.end()
    before = text[begin - 1 : begin] if match.start() == begin else ""
    after = text[end : end + 1]
    follows = text[end : end + 2]
    if before and ((before.isalnum() and not re.search(r"\dx$", text[:begin].lower())) or before in "/#.,-"):
        return True
    if re.match(r"\s?%", follows):
        return True
    if after and (after.isalnum() or after in "/:"):
        return True
    return bool(re.match(r"[.,-]\d", follows))
