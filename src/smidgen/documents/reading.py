"""From a file to pages of words: the text layer where it can be trusted, else OCR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.documents.ocr import MOST_PIXELS_LONG, Ocr, require_installed
from smidgen.documents.page import Box, Page, Word
from smidgen.documents.readers import Sheet, open_source
from smidgen.errors import InvalidInput
from smidgen.models.files import open_for_reading

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PAGES = 100
"""Pages of one file that are read where nobody chooses any."""
MOST_BYTES = 512 << 20
"""The largest file that is read."""


@dataclass(frozen=True)
class File:
    """A document's bytes and what it is called.

    Attributes:
        name: For messages.
        content: All of it.
    """

    name: str
    content: bytes

    @classmethod
    def at(cls, path: str | Path) -> File:
        """Read a file.

        Raises:
            ReferenceNotFound: There is no such file.
            InvalidInput: It may not be read, or is larger than `MOST_BYTES`.
        """
        place = Path(path)
        with open_for_reading(place) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise InvalidInput(f"{place.name} is larger than {MOST_BYTES >> 20} MiB, which no document should be.")
        return cls(place.name, content)


class PageReader:
    """Reads the pages of files; the OCR is loaded when the first page needs it.

    Args:
        threads: Threads that the OCR computes with.
    """

    def __init__(self, threads: int = 1) -> None:
        require_installed()
        self._threads = threads

    @cached_property
    def ocr(self) -> Ocr:
        """What reads words off pictures."""
        return Ocr(self._threads)

    def pages(self, file: File, wanted: Sequence[int] | None = None) -> Iterator[Page]:
        """Read a file page by page; what a page took is given back before the next one.

        Args:
            file: The document.
            wanted: Numbers of pages, from 1; all where None.

        Raises:
            InvalidInput: It has more than `MOST_PAGES` pages and none were chosen, or lacks one that was.
            DamagedFile: It is not what its beginning promises.
            Unsupported: It is of a kind that nothing here reads.
        """
        source = open_source(file.content, file.name)
        try:
            for number in _chosen(file.name, source.count, wanted):
                yield self.page(source.sheet(number - 1), number)
        finally:
            source.close()

    def page(self, sheet: Sheet, number: int) -> Page:
        """Read one page."""
        words = sheet.words()
        read = Page(number, sheet.width, sheet.height, sheet.unit, words or (), "text", sheet.rotation)
        if words is not None:
            return read
        image, turn, skew, words = self.ocr.read(sheet.picture(MOST_PIXELS_LONG))
        width, height = (sheet.height, sheet.width) if turn % 180 else (sheet.width, sheet.height)
        if not words:
            return replace(read, words=sheet.last_resort())
        scaled = tuple(_scaled(word, width / image.width, height / image.height) for word in words)
        return Page(number, width, height, sheet.unit, scaled, "ocr", (sheet.rotation + turn) % 360, skew)

    def picture(self, file: File, page: Page, most: int = 1600) -> Image:
        """Return a page as a picture, in the frame in which it was read."""
        source = open_source(file.content, file.name)
        try:
            sheet = source.sheet(page.number - 1)
            return sheet.picture(most).rotate(-((page.rotation - sheet.rotation) % 360), expand=True)
        finally:
            source.close()


def _scaled(word: Word, across: float, down: float) -> Word:
    def scaled(box: Box) -> Box:
        return Box(box.left * across, box.top * down, box.right * across, box.bottom * down)

    return replace(word, box=scaled(word.box), straight=scaled(word.straight))


def _chosen(name: str, count: int, wanted: Sequence[int] | None) -> Sequence[int]:
    if wanted is None:
        if count > MOST_PAGES:
            raise InvalidInput(
                f"{name} has {count:,} pages, and at most {MOST_PAGES} are read unless you choose.",
                remedy=f"Choose some: --pages 1-{MOST_PAGES}.",
            )
        return range(1, count + 1)
    missing = next((number for number in wanted if not 1 <= number <= count), None)
    if missing is not None:
        raise InvalidInput(f"{name} has {count:,} pages, and page {missing} was asked for.")
    return wanted
