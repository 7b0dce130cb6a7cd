"""The job itself: a document and a schema in, an `Extraction` out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.documents.assignment import assign
from smidgen.documents.authored import MOST_PICTURES, seen, written
from smidgen.documents.checks import build as build_check
from smidgen.documents.extraction import Extraction, Found, Sheet, nested
from smidgen.documents.grounding import boxes_of
from smidgen.documents.habits import habits_of
from smidgen.documents.layout import Layout, lay_out
from smidgen.documents.page import Page
from smidgen.documents.ranking import Ranked, Ranker
from smidgen.documents.reading import File, PageReader
from smidgen.documents.reconciling import reconcile
from smidgen.documents.rows import RowReader
from smidgen.documents.schema import AUTHORED, Field, Wanted, load_schema, require_supported
from smidgen.documents.schema_reading import read_schema
from smidgen.documents.values import converted, fitting
from smidgen.inference.video import packed
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    from smidgen.documents.candidates import Candidate
    from smidgen.documents.choosing import Chooser

WINDOW = 8
"""Pages that are held at once; what was found on them goes on, their words do not."""
CHOOSING = "choosing"
"""What is being done once all pages were read."""
_KEPT = 40
_MOST_ROWS = 2000
_SHOWN = 1600
_TEXT_KEPT = 6000


@dataclass(frozen=True)
class Extractor:
    """Extracts what a schema asks for from any number of documents.

    Attributes:
        wanted: What is asked for.
        reader: Reads pages.
        chooser: The model that chooses where the layout leaves a doubt; None leaves it to the layout.
    """

    wanted: Wanted
    reader: PageReader
    chooser: Chooser | None = None

    def __post_init__(self) -> None:
        sees = self.chooser is not None and self.chooser.sees
        require_supported(self.wanted, free=self.chooser is not None, sees=sees)

    def extract(self, file: File, *, pages: Sequence[int] | None = None, progress: Progress = silent) -> Extraction:
        """Extract from one document.

        Args:
            file: The document.
            pages: Numbers of pages to read, from 1; all where None.
            progress: Receives reports.

        Raises:
            DamagedFile: It is not what its beginning promises.
            InvalidInput: It is protected, or too large.
            Unsupported: It is of a kind that nothing here reads.
        """
        began = time.process_time()
        gathered = _Gathered(self.wanted)
        read = self.reader.pages(file, pages)
        laid_out = _told_each(map(lay_out, read), f"reading {file.name}", progress)
        while window := list(islice(laid_out, WINDOW)):
            gathered.add(window)
        progress(Event(CHOOSING, len(gathered.sheets), None, "pages"))
        chosen = assign(self.wanted.fields, gathered.ranked, self.chooser)
        chosen = reconcile(chosen, gathered.ranked, self.wanted.checks)
        found = {
            field.path: _found(field, chosen.get(field.path))
            for field in self.wanted.fields
            if field.kind not in AUTHORED
        }
        found |= written(self.wanted, self.chooser, gathered.text, gathered.last)
        found |= seen(self.wanted, self.chooser, self._pictures(file, gathered.sheets), gathered.last)
        for table in (each for each in self.wanted.tables if not each.seen):
            found |= dict(_rows(table.path, table.columns, gathered.rows[table.path]))
        faults, found = _checked(self.wanted, found)
        ordered = {field.path: found[field.path] for field in self.wanted.fields}
        ordered |= {path: each for path, each in found.items() if path not in ordered}
        named = nested(ordered, tuple(table.path for table in self.wanted.tables))
        data = {name: named[name] for name in self.wanted.schema["properties"] if name in named}
        name = None if self.chooser is None else self.chooser.name
        return Extraction(
            file.name, ordered, data, tuple(gathered.sheets), faults, name, time.process_time() - began
        )  # fmt: skip

    def _pictures(self, file: File, sheets: Sequence[Sheet]) -> list[bytes]:
        """Return the first pages as a model sees them, none where it need not look."""
        if not self.wanted.is_seen:
            return []
        pages = [Page(each.number, each.width, each.height, "px", (), "ocr", each.rotation) for each in sheets]
        return [packed(self.reader.picture(file, page), _SHOWN) for page in pages[:MOST_PICTURES]]


def _told_each(layouts: Iterable[Layout], stage: str, progress: Progress) -> Iterator[Layout]:
    """Report every page that was read."""
    for number, layout in enumerate(layouts, 1):
        progress(Event(stage, number, None, "pages"))
        yield layout


class _Gathered:
    """What the windows of a document bring together; bounded, however many pages there are."""

    def __init__(self, wanted: Wanted) -> None:
        self._ranker = Ranker(wanted.fields)
        self._readers = {table.path: RowReader(table) for table in wanted.tables if not table.seen}
        self.ranked: dict[str, list[Ranked]] = {field.path: [] for field in wanted.fields}
        self.rows: dict[str, list[dict[str, Candidate]]] = {table.path: [] for table in wanted.tables}
        self.sheets: list[Sheet] = []
        self.text = ""
        self.last: list[Layout] = []

    def add(self, window: Sequence[Layout]) -> None:
        """Take what the pages of a window bring."""
        habits = habits_of("\n".join(layout.text for layout in window))
        for layout in window:
            self.sheets.append(Sheet.of(layout.page))
            if len(self.text) < _TEXT_KEPT:
                self.text = f"{self.text}\n{layout.text}"[:_TEXT_KEPT]
                self.last.append(layout)
            for path, ranked in self._ranker.rank(layout, habits).items():
                self.ranked[path] = sorted([*self.ranked[path], *ranked], key=_first)[:_KEPT]
            for path, reader in self._readers.items():
                if len(self.rows[path]) < _MOST_ROWS:
                    self.rows[path] += reader.read(layout, habits)


def _first(ranked: Ranked) -> tuple[float, int, int]:
    return -ranked.logit, ranked.candidate.page, ranked.candidate.segment.line


def _found(field: Field, chosen: tuple[Ranked, float] | None) -> Found:
    """Write down what was chosen for a field."""
    if chosen is None:
        return Found(field.path, None, status="missing")
    ranked, probability = chosen
    return _told(field, field.path, ranked.candidate, probability)


def _told(field: Field, path: str, candidate: Candidate, probability: float) -> Found:
    value, note = converted(candidate, field)
    status = "grounded" if note is None and (note := fitting(value, field.schema)) is None else "invalid_format"
    sure = probability * candidate.score * math.sqrt(candidate.quality)
    return Found(
        path, value, candidate.text, candidate.page, boxes_of(candidate.words),
        "grounded" if status == "grounded" else "invalid_format", max(0.0, min(1.0, sure)), note,
    )  # fmt: skip


def _rows(path: str, columns: Sequence[Field], rows: Sequence[Mapping[str, Candidate]]) -> Iterator[tuple[str, Found]]:
    for number, row in enumerate(rows):
        for column in columns:
            place = f"{path}[{number}].{column.path}"
            candidate = row.get(column.path)
            if candidate is None:
                yield place, Found(place, None, status="missing")
            else:
                yield place, _told(column, place, candidate, 0.9)


def _checked(wanted: Wanted, found: dict[str, Found]) -> tuple[tuple[str, ...], dict[str, Found]]:
    """Hold the values against the schema's checks; those that contradict each other are marked."""
    values: dict[str, Any] = {path: each.value for path, each in found.items() if "[" not in path}
    for table in wanted.tables:
        for column in table.columns:
            cells = [
                each
                for path, each in found.items()
                if path.startswith(f"{table.path}[") and path.endswith(f"].{column.path}")
            ]
            values[f"{table.path}[].{column.path}"] = [cell.value for cell in cells]
    faults: list[str] = []
    for entry in wanted.checks:
        check = build_check(entry)
        fault = check.fault(values)
        if fault is None:
            continue
        faults.append(fault)
        for path in check.paths:
            if path in found and found[path].status == "grounded":
                found[path] = replace(
                    found[path], status="failed_check", note=fault, confidence=0.5 * found[path].confidence
                )  # fmt: skip
    return tuple(faults), found


def extract(
    path: str | Path | File,
    schema: str | Path | Mapping[str, Any] | type,
    *,
    model: str | None = "smollm2:135m",
    pages: Sequence[int] | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> Extraction:
    """Extract what a schema asks for from a document: PDF, PNG, JPEG, TIFF, WebP, or a video's frames.

    Args:
        path: The document.
        schema: A JSON schema, a file that holds one, a preset ("invoice", "receipt", "id", "form", "chart"),
            ``pydantic:module.Class``, or a class of pydantic.
        model: The model that chooses where the layout leaves a doubt, and writes free text; None asks none.
        pages: Numbers of pages to read, from 1; all where None.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        RecipeError: The schema asks for what cannot be.
        DamagedFile: The document is not what its beginning promises.
        InvalidInput: The document is protected, or too large.
        MissingExtra: The packages for documents are not installed.

    Example:
        found = smidgen.extract("invoice.pdf", "invoice")
        print(found["amount"], found.fields["amount"].box)
    """
    from smidgen.documents.choosing import opened
    from smidgen.machine import cores

    wanted = read_schema(load_schema(schema))
    computing = threads or cores()[0]
    reader = PageReader(computing)
    with opened(model, threads=computing, offline=offline, progress=progress) as chooser:
        file = path if isinstance(path, File) else File.at(path)
        return Extractor(wanted, reader, chooser).extract(file, pages=pages, progress=progress)
