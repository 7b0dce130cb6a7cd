"""PDF through PDFium: the text layer where it can be trusted, and the page as a picture where it cannot."""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from smidgen.documents.page import Box, Word, around
from smidgen.errors import DamagedFile, InvalidInput

if TYPE_CHECKING:
    from PIL.Image import Image

_PASSWORD_ERROR = 4
_RENDERED_DPI = 170
_FEWEST = 12
"""Characters that a text layer must have to stand for a page that shows a picture."""
_PICTURE_SHARE = 0.6
_DOUBTFUL_SHARE = 0.15


@dataclass(frozen=True)
class Pdf:
    """A PDF. Its pages turned by the file or by their own text are read upright."""

    beginnings: tuple[tuple[int, bytes], ...] = ((0, b"%PDF-"),)
    suffixes: tuple[str, ...] = (".pdf",)

    def open(self, content: bytes, name: str) -> PdfSource:
        """Open a file's content.

        Raises:
            InvalidInput: It is protected by a password.
            DamagedFile: It cannot be read.
        """
        return PdfSource(content, name)


class PdfSource:
    """An open PDF."""

    def __init__(self, content: bytes, name: str) -> None:
        import pypdfium2

        self._name = name
        try:
            self._document = pypdfium2.PdfDocument(content)
            self.count = len(self._document)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) == _PASSWORD_ERROR or "assword" in str(error):
                raise InvalidInput(
                    f"{name} is protected by a password.", remedy="Save a copy of it without one."
                ) from error
            raise DamagedFile(f"{name} is damaged: it begins like a PDF and cannot be opened.") from error
        if self.count == 0:
            raise DamagedFile(f"{name} has no pages.")

    def sheet(self, index: int) -> PdfSheet:
        """Return a page.

        Raises:
            DamagedFile: It cannot be read.
        """
        import pypdfium2

        try:
            return PdfSheet(self._document[index])
        except pypdfium2.PdfiumError as error:
            raise DamagedFile(f"{self._name} is damaged: page {index + 1} cannot be read.") from error

    def close(self) -> None:
        """Give its memory back."""
        self._document.close()


@dataclass(frozen=True)
class _Letter:
    """A character of a text layer, None for white space."""

    text: str
    box: Box | None


class PdfSheet:
    """A page of a PDF."""

    unit: Literal["pt", "px"] = "pt"

    def __init__(self, page: Any) -> None:
        self._page = page
        text = page.get_textpage()
        try:
            self._turns = _turns(text, page.get_rotation())
            width, height = page.get_size()
            self.width, self.height = (height, width) if self._turns % 2 else (width, height)
            self._letters = _letters(page, text, self._turns, (self.width, self.height))
        finally:
            text.close()
        self.rotation = self._turns * 90

    def words(self) -> tuple[Word, ...] | None:
        """Return the words of its text layer, None where it says too little or is not what the page shows."""
        shown = "".join(letter.text for letter in self._letters if letter.box is not None)
        has_pictures, covered, hidden = _pictures(self._page)
        if not shown:
            return None if has_pictures or _has_drawings(self._page) else ()
        doubtful = sum(not _is_readable(character) for character in shown) > _DOUBTFUL_SHARE * len(shown)
        scarce = has_pictures and len(shown) < _FEWEST
        if doubtful or scarce or hidden or covered > _PICTURE_SHARE:
            return None
        return self.last_resort()

    def last_resort(self) -> tuple[Word, ...]:
        """Return the words of the text layer as it is."""
        return tuple(_words(self._letters))

    def picture(self, most: int) -> Image:
        """Return it as a picture of 170 dots per inch, or fewer for large pages, so that its memory is bounded."""
        scale = min(_RENDERED_DPI / 72, most / max(self.width, self.height, 1.0))
        bitmap = self._page.render(scale=scale, rotation=self.rotation, rev_byteorder=True)
        try:
            image: Image = bitmap.to_pil().convert("RGB")
        finally:
            bitmap.close()
        return image


def _turns(text: Any, own: int) -> int:
    """Return the quarter turns clockwise that bring most of the text upright, the page's own rotation applied."""
    import pypdfium2.raw as raw

    count = text.count_chars()
    step = max(1, count // 200)
    directions: Counter[int] = Counter()
    for index in range(0, count, step):
        angle = raw.FPDFText_GetCharAngle(text, index)
        if angle >= 0 and not chr(raw.FPDFText_GetUnicode(text, index)).isspace():
            directions[round(angle / (math.pi / 2)) % 4] += 1
    if not directions:
        return 0
    # The angle is that of the page as it lies in the file, anticlockwise; a page turned by the file turns it back.
    found, times = directions.most_common(1)[0]
    return (found - own // 90) % 4 if times > 0.7 * sum(directions.values()) else 0


def _letters(page: Any, text: Any, turns: int, size: tuple[float, float]) -> list[_Letter]:
    import pypdfium2.raw as raw

    letters: list[_Letter] = []
    box, x, y = raw.FS_RECTF(), ctypes.c_int(), ctypes.c_int()
    # Places are told in whole units of the device: a fine one keeps hundredths of a point.
    fine = 100
    width, height = round(size[0] * fine), round(size[1] * fine)

    def place(across: float, up: float) -> tuple[float, float]:
        raw.FPDF_PageToDevice(page, 0, 0, width, height, turns, across, up, x, y)
        return x.value / fine, y.value / fine

    for index in range(text.count_chars()):
        character = chr(raw.FPDFText_GetUnicode(text, index))
        if character.isspace() or character in "\0\ufffe\u200b\ufeff":
            letters.append(_Letter(" ", None))
            continue
        if not raw.FPDFText_GetLooseCharBox(text, index, box):
            continue
        one, other = place(box.left, box.bottom), place(box.right, box.top)
        (left, right), (top, bottom) = sorted((one[0], other[0])), sorted((one[1], other[1]))
        if right > 0 and bottom > 0 and left < size[0] and top < size[1]:
            letters.append(_Letter(character, Box(left, top, right, bottom)))
    return letters


def _words(letters: list[_Letter]) -> list[Word]:
    """Join letters to words: at white space, and where the next letter stands apart or on another line."""
    words: list[Word] = []
    held: list[_Letter] = []

    def finish() -> None:
        if held:
            box = around([letter.box for letter in held if letter.box is not None])
            words.append(Word("".join(letter.text for letter in held), box, box))
            held.clear()

    for letter in letters:
        if letter.box is None:
            finish()
            continue
        if held and held[-1].box is not None:
            before = held[-1].box
            apart = letter.box.left - before.right
            if before.overlap_along(letter.box) < 0.4 or not -before.height < apart < 0.35 * before.height:
                finish()
        held.append(letter)
    finish()
    return words


def _is_readable(character: str) -> bool:
    code = ord(character)
    return not (code < 32 or 0xE000 <= code <= 0xF8FF or code in (0xFFFD, 0xFFFF) or code >= 0xF0000)


def _pictures(page: Any) -> tuple[bool, float, bool]:
    """Say whether a page shows pictures, what share of it the largest covers, and whether its text is invisible."""
    import pypdfium2.raw as raw

    width, height = page.get_size()
    covered, pictures, texts, hidden = 0.0, 0, 0, 0
    for number, item in enumerate(page.get_objects(max_depth=2)):
        if item.type == raw.FPDF_PAGEOBJ_IMAGE:
            pictures += 1
            left, bottom, right, top = item.get_bounds()
            covered = max(covered, abs((right - left) * (top - bottom)) / max(1.0, width * height))
        elif item.type == raw.FPDF_PAGEOBJ_TEXT:
            texts += 1
            hidden += raw.FPDFTextObj_GetTextRenderMode(item) == raw.FPDF_TEXTRENDERMODE_INVISIBLE
        if number > 5000:
            break
    return pictures > 0, covered, hidden > 0.5 * texts


def _has_drawings(page: Any) -> bool:
    return next(iter(page.get_objects(max_depth=1)), None) is not None
