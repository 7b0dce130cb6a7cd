"""The kinds of file that pages are read from, one file each, found by its name.

A reader is a frozen dataclass with ``beginnings`` (the bytes that such a file begins with, and where) and
``open(content, name)``, which returns a `Source`: how many pages there are, and each of them as a `Sheet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from smidgen import registry
from smidgen.documents.page import Word
from smidgen.errors import DamagedFile, Unsupported

if TYPE_CHECKING:
    from PIL.Image import Image

READERS = "smidgen.documents.readers"
"""The folder of the readers, for `smidgen.registry`."""


class Sheet(Protocol):
    """A page as a file holds it.

    Attributes:
        width: Extent in ``unit``.
        height: Extent in ``unit``.
        unit: "pt" or "px".
        rotation: Degrees by which it was turned to be upright, where the file tells.
    """

    width: float
    height: float
    unit: Literal["pt", "px"]
    rotation: int

    def words(self) -> tuple[Word, ...] | None:
        """Return the words of its text layer, None where there is none that can be trusted."""
        ...

    def last_resort(self) -> tuple[Word, ...]:
        """Return the words of a text layer that is not trusted, for where nothing else is to be had."""
        ...

    def picture(self, most: int) -> Image:
        """Return it as a picture in RGB whose longer side has about ``most`` pixels at most."""
        ...


class Source(Protocol):
    """An open file.

    Attributes:
        count: Its pages.
    """

    count: int

    def sheet(self, index: int) -> Sheet:
        """Return a page, counted from 0."""
        ...

    def close(self) -> None:
        """Give its memory back."""
        ...


class Reader(Protocol):
    """A kind of file.

    Attributes:
        beginnings: Pairs of a place and the bytes that stand there in every such file.
        suffixes: Endings of such files' names.
    """

    beginnings: Sequence[tuple[int, bytes]]
    suffixes: Sequence[str]

    def open(self, content: bytes, name: str) -> Source:
        """Open a file's content."""
        ...


def suffixes() -> frozenset[str]:
    """Return the endings of the names of files that can be read.

    Example:
        >>> sorted(suffixes())[:8]
        ['.avi', '.jpeg', '.jpg', '.m4v', '.mkv', '.mov', '.mp4', '.pdf']
    """
    return frozenset(each for name in registry.names(READERS) for each in registry.find(READERS, name)().suffixes)


def open_source(content: bytes, name: str) -> Source:
    """Open a file by what it begins with, whatever its name is.

    Raises:
        DamagedFile: It is empty, or not what its beginning promises.
        Unsupported: It is of a kind that nothing here reads.
    """
    if not content:
        raise DamagedFile(f"{name} is empty: it has 0 bytes.")
    for kind in registry.names(READERS):
        reader: Reader = registry.find(READERS, kind)()
        if any(content[place : place + len(sign)] == sign for place, sign in reader.beginnings):
            return reader.open(content, name)
    if b"%PDF-" in content[:1024]:
        found: Reader = registry.find(READERS, "pdf")()
        return found.open(content, name)
    raise Unsupported(
        f"{name} is no document that can be read.", remedy="PDF, PNG, JPEG, TIFF and WebP files are read, and videos."
    )
