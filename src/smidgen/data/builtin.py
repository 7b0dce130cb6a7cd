"""The built-in text: Python's own documentation topics, present wherever Python is.

It is English prose and code of about 465,000 characters (standard library, ``pydoc_data.topics``), and serves for
calibration and held-out measurement where the user names no data. Topics repeat each other's text ("compound"
contains "for"), so topics that share a passage form one family, and a family is never divided between the parts.
"""

from __future__ import annotations

import sys
from functools import cache
from hashlib import sha256

from smidgen.data.rows import Corpus, Row
from smidgen.data.shingles import shingles, words
from smidgen.errors import Unsupported

STAND_IN_WARNING = (
    "No data was given, so Python's documentation stands in for your own text, in calibration with text that the model "
    "writes itself: what is kept and what is measured may differ on your work. Give examples of it with --for."
)
LICENCE = "PSF-2.0"
HELD_OUT_SHARE = 0.25


@cache
def builtin() -> Corpus:
    """Python's documentation topics, one row per topic, in the order of their names.

    The topics differ between Python versions; `Corpus.sha256` tells which were used.

    Raises:
        Unsupported: This Python was installed without its documentation topics.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise Unsupported(
            "This Python comes without its documentation topics (pydoc_data), so there is no built-in text.",
            remedy="Name your own text with --for, or install the complete standard library.",
        ) from None
    rows = tuple(Row(text=topics[name].strip() + "\n", origin=name) for name in sorted(topics))
    return Corpus(_name(), rows, LICENCE)


def calibration() -> Corpus:
    """The part for calibration and training: about three quarters, repeated passages once."""
    return _parts()[0]


def held_out() -> Corpus:
    """The part for measurement: shares no topic and no run of 13 words with `calibration`."""
    return _parts()[1]


def _name() -> str:
    return f"Python {sys.version_info.major}.{sys.version_info.minor} documentation topics"


@cache
def _parts() -> tuple[Corpus, Corpus]:
    whole = builtin()
    held: list[Row] = []
    trained: list[Row] = []
    families = [_without_repeats(family) for family in _families(whole.rows)]
    total = sum(_characters(family) for family in families)
    for family in sorted(families, key=lambda family: sha256(family[0].origin.encode()).hexdigest()):
        fits = _characters(held) + _characters(family) <= HELD_OUT_SHARE * total
        (held if fits else trained).extend(family)
    trained.sort(key=lambda row: row.origin)
    held.sort(key=lambda row: row.origin)
    return whole.with_rows(trained, part="calibration part"), whole.with_rows(held, part="held-out part")


def _characters(rows: list[Row]) -> int:
    return sum(len(row.plain) for row in rows)


def _families(rows: tuple[Row, ...]) -> list[list[Row]]:
    """Group rows so that no run of 13 words occurs in two groups."""
    owner: dict[int, int] = {}
    parent = list(range(len(rows)))

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    for number, row in enumerate(rows):
        for shingle in shingles(row.plain):
            parent[root(owner.setdefault(shingle, number))] = root(number)
    groups: dict[int, list[Row]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(root(number), []).append(row)
    return list(groups.values())


def _without_repeats(family: list[Row]) -> list[Row]:
    """Keep the longest topics whole, and of the others the paragraphs that are new; fragments go."""
    seen: set[str] = set()
    kept: list[Row] = []
    for row in sorted(family, key=lambda row: (-len(row.plain), row.origin)):
        paragraphs = row.plain.split("\n\n")
        new = [paragraph for paragraph in paragraphs if " ".join(words(paragraph)) not in seen]
        seen.update(" ".join(words(paragraph)) for paragraph in paragraphs)
        text = "\n\n".join(new)
        if not kept or 2 * len(text) > len(row.plain):
            kept.append(Row(text=text.strip("\n") + "\n", origin=row.origin))
    return kept
