"""Names of firms and shops."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smidgen.documents.candidates import Candidate, Span, in_segment
from smidgen.documents.habits import Habits
from smidgen.documents.kinds.address import address_likeness
from smidgen.documents.kinds.email import Email
from smidgen.documents.kinds.text import Text
from smidgen.documents.kinds.website import Website

if TYPE_CHECKING:
    from smidgen.documents.layout import Layout, Segment

_LEGAL = re.compile(
    r"(?i)(?<![\w.])(?:inc|incorporated|llc|l\.l\.c|ltd|limited|llp|plc|corp|corporation|gmbh|mbh|ag|kg|ohg|ug|e\.?k|"
    r"b\.?v|n\.?v|v\.?o\.?f|s\.?a\.?s|s\.?a\.?r\.?l|sarl|s\.?r\.?l|s\.?p\.?a|s\.?l\.?u?|s\.?a|oyj?|ab|a/s|aps|asa|as|"
    r"pty|pte|sdn\.? ?bhd|s/b|bhd|pvt|lda|ltda|eireli|kft|zrt|s\.?r\.?o|a\.?s|sp\.? ?z ?o\.?o|d\.?o\.?o|"
    r"enterprise|enterprises|trading|holdings?|group|& co|& sons)\.?(?![\w])"
)
_TITLE = re.compile(
    r"(?i)^\W*(?:(?:tax|simplified|proforma|pro forma|commercial|cash|sales|official|payment|credit|debit|"
    r"original|copy|duplicate)\W+)*"
    r"(?:invoice|receipt|bill|note|rechnung|quittung|beleg|facture|reçu|factuur|factura|fattura|fatura|recibo|"
    r"ricevuta|faktura|"
    r"rekening|kassenbon|bon|statement|quotation|order|resit|welcome|thank you.*|page.*|copy|slip|original|"
    r"duplicate|ticket|"
    r"account statement|description|date|total|amount|items?|qty|summary|invoice summary|confirmation|delivery note|"
    r"form|application|registration|identity card|passport|driver'?s? licen[cs]e)\b"
)
_PARTS = re.compile(r"\s[-–—|•·]\s|\s{2,}|[•·|]|\s*[(\[][^()]*\d[^()]*[)\]]?")
"""What parts names on one line; a registration number in brackets is no part of the name before it."""
_SPEECH = re.compile(
    r"(?i)\b(?:thank|please|welcome|your|you|visit|www|http|tel|phone|fax|gst|vat|reg|open|hours|member|"
    r"goods sold|if|any|all|for)\b"
)
_REACH = 9
_AGAIN = 0.8


@dataclass(frozen=True)
class Organisation:
    """The firm or shop that made a document.

    Where no label tells, the name is the line that looks most like one: it stands at the top, in large letters, over
    an address, bears a legal form (Ltd, GmbH, Sdn Bhd), or is what the site's or the mail's address is called after.

    Example:
        >>> [span.value for span in Organisation().spans("Sold by: Amber Foods Ltd.", Habits())]
        ['Sold by: Amber Foods Ltd.']
    """

    def spans(self, text: str, habits: Habits) -> Iterator[Span]:
        """Return a text as a name, nothing where it cannot be one."""
        for span in Text().spans(text, habits):
            found = str(span.value)
            letters = sum(character.isalpha() for character in found)
            if letters >= 2 and letters >= 0.5 * len(found.replace(" ", "")) and len(found) <= 80:
                yield Span(span.begin, span.end, span.value, 0.9 if _LEGAL.search(found) else 0.7)

    def candidates(self, layout: Layout, habits: Habits) -> Iterator[Candidate]:
        """Find what may be the issuer's name on a page."""
        sites = _site_names(layout, habits)
        whole = layout.text.casefold()
        for rank, segment in enumerate(layout.segments):
            likely = _likeness(segment, layout, rank)
            for span in _named_parts(segment.text):
                for found in in_segment(
                    segment, layout.page.number, self.spans(segment.text[span[0] : span[1]], habits)
                ):
                    # The part's own places are moved to the segment's.
                    moved = next(in_segment(segment, layout.page.number, [_moved(found, span[0])]), None)
                    if moved is not None:
                        name = str(moved.value)
                        again = _AGAIN if len(name) > 3 and whole.count(name.casefold()) > 1 else 0.0
                        yield replace(moved, unlabelled=likely + again + _own_likeness(name, sites))


def _moved(found: Candidate, by: int) -> Span:
    return Span(found.begin + by, found.end + by, found.value, found.quality)


def _named_parts(text: str) -> list[tuple[int, int]]:
    """Return where the parts of a line lie that a dash or a bar sets apart."""
    edges = [match.span() for match in _PARTS.finditer(text)]
    begins = [0, *(end for _, end in edges)]
    ends = [*(begin for begin, _ in edges), len(text)]
    return [(begin, end) for begin, end in zip(begins, ends, strict=True) if end - begin > 1]


def _likeness(segment: Segment, layout: Layout, rank: int) -> float:
    """Return how much a segment's place and look speak for an issuer's name, as log-odds."""
    depth = segment.box.top / max(1.0, layout.page.height)
    likely = -2.9
    likely += {0: 1.6, 1: 1.1, 2: 0.7, 3: 0.4}.get(rank, 0.0)
    likely += 0.5 if rank < _REACH else -0.4 if depth < 0.85 else 0.0
    likely += max(0.0, min(2.0, 2.2 * (segment.box.height / layout.height - 1.15)))
    under = layout.below(segment.box, 2.6)
    if under:
        likely += 1.2 * max(address_likeness(each.text) for each in under[:2])
        likely += 0.3 if _LEGAL.search(under[0].text) and rank == 0 and not _LEGAL.search(segment.text) else 0.0
    return likely


def _own_likeness(name: str, sites: set[str]) -> float:
    """Return how much the words of a name speak for it, as log-odds."""
    if _TITLE.search(name):
        return -6.0
    likely = 2.6 if _LEGAL.search(name) else 0.0
    likely -= 3.0 * address_likeness(name)
    likely -= 2.5 if _SPEECH.search(name) else 0.0
    likely -= 0.8 * min(6, max(0, sum(character.isdigit() for character in name) - 1))
    likely -= 2.0 if name.rstrip().endswith(":") or ":" in name else 0.0
    likely -= 1.0 if len(name.split()) > 7 else 0.0
    likely -= 0.8 if len(name) < 4 else 0.0
    likely -= 0.8 if name[:1].islower() else 0.0
    plain = re.sub(r"[^a-z0-9]", "", _LEGAL.sub("", name).lower())
    if plain and any(_alike(plain, site) for site in sites):
        likely += 2.4
    return likely


def _alike(plain: str, site: str) -> bool:
    return (
        len(plain) >= 3
        and len(site) >= 3
        and (plain == site or (len(plain) >= 5 and (plain in site or site in plain) and len(site) >= 5))
    )


def _site_names(layout: Layout, habits: Habits) -> set[str]:
    """Return what the sites and the mail hosts on a page are called, without their endings."""
    text = layout.text
    hosts = [str(span.value).split("@")[1] for span in Email().spans(text, habits)]
    hosts += [
        re.sub(r"^(?:https?://)?(?:www\.)?", "", str(span.value).lower()).split("/")[0]
        for span in Website().spans(text, habits)
    ]
    free = {"gmail", "yahoo", "hotmail", "outlook", "facebook", "gmx", "web", "icloud"}
    names = {re.sub(r"[^a-z0-9]", "", host.lower().rsplit(".", 1)[0].rsplit(".", 1)[-1]) for host in hosts}
    return {name for name in names if name not in free}
