"""Currencies, by their codes, signs and names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smidgen.documents.candidates import Candidate, Span, in_every_segment
from smidgen.documents.habits import Habits

if TYPE_CHECKING:
    from smidgen.documents.layout import Layout

_CODES = [
    "EUR",
    "USD",
    "GBP",
    "CHF",
    "CAD",
    "AUD",
    "NZD",
    "SGD",
    "HKD",
    "MYR",
    "INR",
    "JPY",
    "CNY",
    "SEK",
    "NOK",
    "DKK",
    "PLN",
    "CZK",
    "HUF",
    "RON",
    "BGN",
    "BRL",
    "MXN",
    "ZAR",
    "THB",
    "IDR",
    "PHP",
    "AED",
    "SAR",
    "TRY",
    "ILS",
    "KRW",
    "TWD",
    "VND",
    "RUB",
    "UAH",
    "ARS",
    "CLP",
    "COP",
    "EGP",
    "KES",
    "NGN",
    "PKR",
    "LKR",
    "BDT",
]
_SIGNS = {
    "US$": "USD", "S$": "SGD", "A$": "AUD", "C$": "CAD", "CA$": "CAD", "AU$": "AUD", "NZ$": "NZD",
    "HK$": "HKD", "R$": "BRL",
    "€": "EUR", "£": "GBP",
    "₹": "INR", "¥": "JPY", "₩": "KRW", "₽": "RUB", "฿": "THB",
    "₺": "TRY", "₪": "ILS", "₱": "PHP", "₫": "VND",
    "zł": "PLN", "Kč": "CZK", "Ft": "HUF", "lei": "RON", "$": "USD",
}  # fmt: skip
_WORDS = {
    "rm": "MYR", "ringgit": "MYR", "rs": "INR", "rupees": "INR", "rupee": "INR",
    "euro": "EUR", "euros": "EUR",
    "us dollars": "USD", "us dollar": "USD", "pounds sterling": "GBP", "swiss francs": "CHF",
    "schweizer franken": "CHF",
}  # fmt: skip
_DOLLARS = (
    (re.compile(r"\b(?:Singapore)\b", re.IGNORECASE), "SGD"),
    (re.compile(r"\b(?:Australia|ABN)\b", re.IGNORECASE), "AUD"),
    (re.compile(r"\b(?:New Zealand)\b", re.IGNORECASE), "NZD"),
    (re.compile(r"\b(?:Canada|HST|GST/HST|QST)\b", re.IGNORECASE), "CAD"),
    (re.compile(r"\b(?:Hong Kong)\b", re.IGNORECASE), "HKD"),
)
_ALL = re.compile(
    rf"(?<![A-Za-z])(?P<code>{'|'.join(_CODES)})(?![A-Za-z])"
    + rf"|(?P<sign>{'|'.join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))})(?![A-Za-z])"
    + rf"|(?<![A-Za-z])(?P<word>(?i:{'|'.join(sorted(_WORDS, key=len, reverse=True))}))(?![A-Za-z])"
)


@dataclass(frozen=True)
class Currency:
    """A currency as its code of ISO 4217.

    The sign ``$`` is the US dollar unless the page speaks of another country that has dollars. The currency that
    most sums of a page have is the likeliest.

    Example:
        >>> [span.value for span in Currency().spans("Total RM 12.00, or € 3", Habits())]
        ['MYR', 'EUR']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Find currencies in a text."""
        for match in _ALL.finditer(text):
            code = match["code"] or _SIGNS.get(match["sign"] or "") or _WORDS[(match["word"] or "").lower()]
            yield Span(
                match.start(), match.end(), code, 1.0 if match["code"] else 0.6 if match["sign"] == "$" else 0.95
            )

    def candidates(self, layout: Layout, habits: Habits) -> Iterator[Candidate]:
        """Find the currencies of a page; those named more often are the likelier ones."""
        found = [
            self._of_country(each, layout.text)
            for each in in_every_segment(layout, lambda text: self.spans(text, habits))
            if _beside_sum(each)
        ]
        counts = Counter(each.value for each in found)
        for each in found:
            yield replace(each, unlabelled=1.0 + 2.5 * counts[each.value] / len(found))

    def _of_country(self, candidate: Candidate, text: str) -> Candidate:
        if candidate.text != "$" or candidate.value != "USD":
            return candidate
        country = next((code for pattern, code in _DOLLARS if pattern.search(text)), None)
        # A buyer's address names a country too: a plain sign stays the US dollar beside any American address.
        if country is None or re.search(r"\b[A-Z]{2},? \d{5}(?:-\d{4})?\b|\bUSA\b|US Dollar", text):
            return candidate
        return replace(candidate, value=country)


def _beside_sum(candidate: Candidate) -> bool:
    """Say whether a currency stands beside figures, is alone, or is spelled out: ``RM`` may be part of a name."""
    text = candidate.segment.text
    around = text[max(0, candidate.begin - 3) : candidate.begin] + text[candidate.end : candidate.end + 4]
    alone = candidate.text == text.strip(" :()")
    spelled = candidate.text.lower() in _WORDS and len(candidate.text) > 3
    labelled = bool(
        re.search(r"(?i)total|amount|currency|w[äa]hrung|devise|betrag|price|\(\s*$", text[: candidate.begin])
    )
    return alone or spelled or labelled or any(character.isdigit() for character in around)
