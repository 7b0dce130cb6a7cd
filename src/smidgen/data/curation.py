"""A corpus made cleaner: what is repeated, says nothing, is in another language or is to be measured on goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from smidgen.data.duplicates import NearDuplicates
from smidgen.data.filters import language_of, repeats_itself, require_known
from smidgen.data.rows import Corpus, Row
from smidgen.data.shingles import words
from smidgen.data.split import Leakage
from smidgen.errors import InvalidInput
from smidgen.progress import Event, Progress, silent

_STUTTER = re.compile(r"^([^\n]*\w[^\n]*)(?:\n\1){2,}$", re.MULTILINE)


@dataclass(frozen=True)
class Curation:
    """What is removed.

    Attributes:
        minimum_words: Plain texts with fewer words go.
        maximum_words: Rows with more words go; None keeps them.
        similarity: Estimated Jaccard similarity, above 0 to 1, from which a row counts as a near duplicate.
        repetition: Whether plain texts that mostly repeat themselves go.
        languages: ISO 639-1 codes; plain texts of 20 words or more in other languages go. None: all stay.

    Raises:
        InvalidInput: A value is out of range.
        ReferenceNotFound: A language is unknown.
    """

    minimum_words: int = 3
    maximum_words: int | None = None
    similarity: float = 0.8
    repetition: bool = True
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.similarity <= 1:
            raise InvalidInput(f"The similarity must lie above 0 and at most at 1, not {self.similarity}.")
        if self.minimum_words < 0 or (self.maximum_words is not None and self.maximum_words < self.minimum_words):
            raise InvalidInput(f"Rows of {self.minimum_words} to {self.maximum_words} words cannot be.")
        require_known(self.languages or ())


@dataclass(frozen=True)
class CurationReport:
    """What was removed.

    Attributes:
        exact: Rows with the same words (case, punctuation and spaces aside) and the same label as an earlier one.
        near: Rows that hardly differ from an earlier one.
        short: Plain texts of too few words.
        lines: Lines that repeated the line before at least twice.
        long: Rows of too many words.
        repetitive: Plain texts that mostly repeat themselves.
        foreign: Plain texts in other languages.
        leaked: Rows that share passages with what is to be measured on.
    """

    exact: int = 0
    near: int = 0
    short: int = 0
    lines: int = 0
    long: int = 0
    repetitive: int = 0
    foreign: int = 0
    leaked: int = 0

    def sentences(self) -> tuple[str, ...]:
        """What was removed, for a person; nothing removed gives nothing.

        Example:
            >>> CurationReport(exact=2, lines=1).sentences()
            ('2 duplicate rows were removed.', '1 repeated line was removed.')
        """
        counted = (
            (self.leaked, "row that stands in the held-out text", "rows that stand in the held-out text"),
            (self.exact, "duplicate row", "duplicate rows"),
            (self.near, "nearly duplicate row", "nearly duplicate rows"),
            (self.short, "very short row", "very short rows"),
            (self.long, "very long row", "very long rows"),
            (self.repetitive, "row of mere repetition", "rows of mere repetition"),
            (self.foreign, "row in another language", "rows in another language"),
            (self.lines, "repeated line", "repeated lines"),
        )
        return tuple(
            f"{count:,} {one if count == 1 else many} {'was' if count == 1 else 'were'} removed."
            for count, one, many in counted
            if count
        )

    @property
    def rows(self) -> int:
        """Rows removed in all."""
        return self.exact + self.near + self.short + self.long + self.repetitive + self.foreign + self.leaked


@dataclass(frozen=True)
class Datasheet:
    """What was kept of a corpus, and why the rest went.

    Attributes:
        name: Name of the corpus.
        licence: SPDX identifier where it is known.
        sha256: Digest of what was kept.
        rows: Rows before and after.
        characters: Characters before and after.
        curation: What was asked for.
        removed: How much went for which reason.
        examples: Where the first row that went for each reason came from, and how it begins.
        held_out: Name of the text that nothing may leak from; None where none was named.
    """

    name: str
    licence: str | None
    sha256: str
    rows: tuple[int, int]
    characters: tuple[int, int]
    curation: Curation
    removed: CurationReport
    examples: dict[str, str]
    held_out: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Return the sheet for people to read."""
        lines = [
            f"# {self.name}",
            "",
            f"- Licence: {self.licence or 'unknown'}",
            f"- SHA-256 of what was kept: {self.sha256}",
        ]
        lines += [
            f"- {what}: {after:,} of {before:,} kept"
            for what, (before, after) in (("Rows", self.rows), ("Characters", self.characters))
        ]
        lines.append(f"- Checked against the held-out text: {self.held_out or 'none was named'}")
        lines += [f"- {name.replace('_', ' ').capitalize()}: {value}" for name, value in asdict(self.curation).items()]
        lines += ["", "| what went | count | the first |", "|---|---|---|"]
        for reason, count in asdict(self.removed).items():
            shown = self.examples.get(reason, "").replace("|", "\\|")
            lines.append(f"| {reason} | {count:,} | {shown} |")
        return "\n".join(lines) + "\n"


def curate(
    corpus: Corpus,
    *,
    minimum_words: int = 3,
    similarity: float = 0.8,
    curation: Curation | None = None,
    held_out: Corpus | None = None,
) -> tuple[Corpus, CurationReport]:
    """Remove duplicates, near duplicates, rows that say nothing, stuttering lines and what must not be trained on.

    Near duplicates are looked for (`smidgen.data.duplicates`) among rows of 20 words or more with the same label and
    the same short answer; the first of them stays.

    Args:
        corpus: What to clean.
        minimum_words: Plain texts with fewer words go; where ``curation`` is not given.
        similarity: From which a row counts as a near duplicate; where ``curation`` is not given.
        curation: What is removed, in full.
        held_out: A text to be measured on; rows that share more than a tenth of their passages with it go.

    Returns:
        The cleaner corpus, with the report among its warnings, and the report.

    Raises:
        InvalidInput: ``similarity`` is out of range, or no row remains.
    """
    asked = curation or Curation(minimum_words=minimum_words, similarity=similarity)
    cleaned, sheet = describe(corpus, asked, held_out=held_out)
    return cleaned, sheet.removed


def describe(
    corpus: Corpus, curation: Curation, *, held_out: Corpus | None = None, progress: Progress = silent
) -> tuple[Corpus, Datasheet]:
    """Clean a corpus as `curate` does and return its datasheet with it; ``progress`` hears of every hundredth row."""
    judge = _Judge(curation, held_out)
    rows: list[Row] = []
    for number, original in enumerate(corpus.rows, 1):
        row = judge.row(original)
        rows += [] if row is None else [row]
        if number % 100 == 0 or number == len(corpus.rows):
            progress(Event("cleaning", number, len(corpus.rows), "rows", f"{len(rows):,} kept"))
    if not rows:
        raise InvalidInput(
            f"No row of {corpus.name} remains after cleaning.",
            remedy=f"Give texts of at least {curation.minimum_words} words, or load them without removing duplicates.",
        )
    report = CurationReport(**judge.counts)
    cleaned = corpus.with_rows(rows, warnings=report.sentences())
    sheet = Datasheet(
        corpus.name,
        corpus.licence,
        cleaned.sha256,
        (len(corpus.rows), len(rows)),
        (corpus.characters, cleaned.characters),
        curation,
        report,
        judge.examples,
        None if held_out is None else held_out.name,
    )
    return cleaned, sheet


class _Judge:
    """Decides row by row; knows those before."""

    def __init__(self, curation: Curation, held_out: Corpus | None) -> None:
        self.curation = curation
        self.counts: dict[str, int] = {}
        self.examples: dict[str, str] = {}
        self.leakage = None if held_out is None else Leakage(held_out)
        self._near = NearDuplicates(curation.similarity)
        self._seen: set[tuple[str, str | None]] = set()

    def row(self, original: Row) -> Row | None:
        """Return the row as it stays, None where it goes."""
        row, repeated = _without_stutter(original)
        self._count("lines", original, repeated)
        found = words(row.plain)
        key = (" ".join(found) if found else row.plain.strip(), row.label)
        reason = self._reason(row, found, key)
        self._seen.add(key)
        if reason is None:
            return row
        self._count(reason, original, 1)
        return None

    def _reason(self, row: Row, found: list[str], key: tuple[str, str | None]) -> str | None:
        """Say why a row goes; the costlier questions come last."""
        asked, plain = self.curation, row.text is not None
        reasons: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("short", lambda: plain and len(found) < asked.minimum_words and row.label is None),
            ("long", lambda: asked.maximum_words is not None and len(found) > asked.maximum_words),
            ("exact", lambda: key in self._seen),
            ("leaked", lambda: self.leakage is not None and self.leakage.holds(row)),
            ("repetitive", lambda: asked.repetition and plain and repeats_itself(row.plain)),
            ("foreign", lambda: plain and self._is_foreign(row, found)),
            ("near", lambda: self._near.has_like(row)),
        )
        return next((name for name, holds in reasons if holds()), None)

    def _is_foreign(self, row: Row, found: list[str]) -> bool:
        wanted = self.curation.languages
        return wanted is not None and len(found) >= 20 and language_of(row.plain) not in wanted

    def _count(self, reason: str, row: Row, count: int) -> None:
        if count:
            self.counts[reason] = self.counts.get(reason, 0) + count
            beginning = " ".join(row.plain.split())[:60]
            self.examples.setdefault(reason, f"{row.origin}: {beginning}" if row.origin else beginning)


def _without_stutter(row: Row) -> tuple[Row, int]:
    """Make one line of three or more equal lines in a row."""
    if row.text is None:
        return row, 0
    text = _STUTTER.sub(r"\1", row.text)
    return (replace(row, text=text), row.text.count("\n") - text.count("\n")) if text != row.text else (row, 0)
