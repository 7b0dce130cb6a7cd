"""Postal addresses, which take one or several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smidgen.documents.candidates import Candidate, Span
from smidgen.documents.habits import Habits
from smidgen.documents.kinds.text import Text

if TYPE_CHECKING:
    from smidgen.documents.layout import Layout, Segment

_STREET = re.compile(
    r"(?i)\b(?:street|st|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|way|court|ct|square|plaza|highway|"
    r"hwy|parkway|pkwy|suite|"
    r"floor|unit|block|blk|lot|jalan|jln|lorong|taman|tmn|kampung|bandar|persiaran|lebuh|seksyen|mukim|batu|"
    r"rue|allée|chemin|quai|place|"
    r"cours|calle|avenida|paseo|plaza|via|viale|piazza|corso|rua|platz|weg|allee|ring|gasse|laan|plein|gracht|"
    r"marg|nagar|koil|"
    r"box|p\.?o\.? box|building|bldg|tower|centre|mall|no\.? ?\d+)\b|(?:stra(?:ß|ss)e|str\.|straat|weg|platz|"
    r"gasse|laan|plein|gracht|kade)(?!\w)"
)
_POSTCODE = re.compile(
    r"(?<!\()\b(?:[A-Z]{1,2}-)?\d{4,6}\b(?!-[A-Z])|\b\d{5}-\d{4}\b|\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b|"
    r"\b\d{4} ?[A-Z]{2}\b|"
    r"\b[A-Z]\d[A-Z] ?\d[A-Z]\d\b"
)
_HOUSE = re.compile(
    r"(?i)^\W*(?:no\.?\s*)?\d+[\w\-/&,]*[ ,]+[A-Za-z]|[A-Za-z]{3,}\.? \d+[a-z]?(?:[-–/]\d+)?\s*(?:,|$|-)"
)
_OTHER = re.compile(
    r"(?i)\b(?:tel|phone|fax|e-?mail|gst|vat|tax|date|invoice|receipt|total|cash|www|http|order|reg|"
    r"iban|bic|"
    r"qty|amount|cashier|time|"
    r"bill|document|member|customer|tva|btw|kvk|siret|ust)\b|@|\d[.,]\d{2}\b|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|"
    r"\d{2}:\d{2}|^\W*\d+ ?[xX] "
)
_MOST_LINES = 5
_BEGINS = 0.5
"""How much a line must look like part of an address to begin one: a figure before a word is not enough."""


def address_likeness(text: str) -> float:
    """Return how much a line looks like part of an address, 0 to 1.

    Example:
        >>> address_likeness("12 Mill Road"), address_likeness("Amber Foods")
        (1.0, 0.0)
    """
    if _OTHER.search(text):
        return 0.0
    likely = 0.55 * bool(_STREET.search(text)) + 0.5 * bool(_POSTCODE.search(text)) + 0.45 * bool(_HOUSE.search(text))
    return min(1.0, likely)


@dataclass(frozen=True)
class Address:
    """A postal address, its lines joined by commas.

    Example:
        >>> [span.value for span in Address().spans(": 12 Mill Road, Leeds", Habits())]
        ['12 Mill Road, Leeds']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Return a text as an address, nothing where it cannot be one."""
        for span in Text().spans(text, habits):
            likely = address_likeness(str(span.value))
            if likely or len(str(span.value).split()) > 2:
                yield Span(span.begin, span.end, span.value, 0.6 + 0.4 * likely)

    def candidates(self, layout: Layout, habits: Habits) -> Iterator[Candidate]:
        """Find blocks of lines that look like an address; the topmost is the issuer's."""
        used: set[tuple[int, int]] = set()
        rank = 0
        for segment in layout.segments:
            if (segment.line, segment.index) in used or address_likeness(segment.text) < _BEGINS:
                continue
            block = grown(segment, layout)
            used |= {(each.line, each.index) for each in block}
            likely = sum(address_likeness(each.text) for each in block)
            found = joined(block, layout)
            surely = min(1.0, 0.5 + likely / 4)
            yield replace(found, quality=surely, unlabelled=min(2.2, likely) - 1.2 - 0.6 * rank)
            rank += 1

    def following(self, candidate: Candidate, layout: Layout) -> Candidate:
        """Return an address that a label points to with the lines that go on with it."""
        block = grown(candidate.segment, layout, bare=True)
        if len(block) == 1:
            return candidate
        rest = joined(block[1:], layout)
        value = _with_comma(str(candidate.value), str(rest.value))
        return replace(
            candidate, value=value, text=f"{candidate.text}\n{rest.text}", words=(*candidate.words, *rest.words)
        )


def grown(segment: Segment, layout: Layout, *, bare: bool = False) -> list[Segment]:
    """Return a segment with the lines under it that go on with its address.

    Args:
        segment: The first line.
        layout: The page.
        bare: The first line was pointed to by a label, which its text still has.
    """
    block = [segment]
    while len(block) < _MOST_LINES:
        last = block[-1]
        under = [each for each in layout.below(last.box, 1.3) if each.line > last.line]
        following = next((each for each in under if _aligned(each, block, bare) and ":" not in each.text), None)
        if following is None or _OTHER.search(following.text):
            break
        likely = address_likeness(following.text)
        goes_on = last.text.rstrip().endswith((",", "-")) or following.line == last.line + 1
        is_place = (
            following.text.rstrip(".,").replace(" ", "").replace(",", "").isalpha() and len(following.text.split()) <= 4
        )
        if not (likely >= 0.45 or (goes_on and is_place)):
            break
        block.append(following)
    return block


def _aligned(segment: Segment, block: list[Segment], bare: bool) -> bool:
    """Say whether a line begins where its block does, or is centred under it."""
    first = block[-1].box
    slack = 1.2 * first.height
    centred = abs((segment.box.left + segment.box.right) - (first.left + first.right)) < 3 * slack
    begins = abs(segment.box.left - first.left) < slack
    within = bare and segment.box.left > first.left
    return begins or centred or within


def joined(block: list[Segment], layout: Layout) -> Candidate:
    """Return the lines of a block as one candidate."""
    text = ""
    for segment in block:
        text = _with_comma(text, segment.text.strip(" :;")) if text else segment.text.strip(" :;")
    words = tuple(word for segment in block for word in segment.words)
    first = block[0]
    return Candidate(
        text.rstrip(" ,"), "\n".join(each.text for each in block), words, layout.page.number, first, 0, len(first.text)
    )


def _with_comma(text: str, more: str) -> str:
    return f"{text.rstrip()} {more}" if text.rstrip().endswith((",", "-")) else f"{text.rstrip()}, {more}"
