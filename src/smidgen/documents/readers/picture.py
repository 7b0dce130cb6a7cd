"""PNG, JPEG, TIFF with several pages, and WebP, decoded within bounds."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from smidgen.documents.page import Word
from smidgen.errors import DamagedFile, InvalidInput

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 100_000_000
"""Pixels that are decoded at most: an A3 page scanned at 600 dots per inch has 70 million."""

_DRAFT = 2400
_JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Picture:
    """A file of pictures, each of which is a page; of WebP and PNG files that move only the first one.

    The number of pixels is read before anything is decoded. A JPEG larger than `MOST_PIXELS` is decoded at an
    eighth, a quarter or half of its size, which takes no more memory than the smaller picture; others are refused.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (30, 20), "white").save(file, "PNG")
        >>> source = Picture().open(file.getvalue(), "white.png")
        >>> source.count, source.sheet(0).picture(2000).size
        (1, (30, 20))
    """

    beginnings: tuple[tuple[int, bytes], ...] = (
        (0, b"\x89PNG\r\n\x1a\n"),
        (0, _JPEG),
        (0, b"II*\0"),
        (0, b"MM\0*"),
        (8, b"WEBP"),
    )
    suffixes: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")

    def open(self, content: bytes, name: str) -> PictureSource:
        """Open a file's content.

        Raises:
            DamagedFile: It cannot be decoded.
        """
        return PictureSource(content, name)


class PictureSource:
    """An open file of pictures."""

    def __init__(self, content: bytes, name: str) -> None:
        self._name = name
        self._image = _opened(content, name)
        self.count = getattr(self._image, "n_frames", 1) if self._image.format == "TIFF" else 1

    def sheet(self, index: int) -> PictureSheet:
        """Return a page.

        Raises:
            InvalidInput: It has too many pixels.
            DamagedFile: It cannot be decoded.
        """
        try:
            if self.count > 1:
                self._image.seek(index)
            return _decoded(self._image, self._name)
        except (OSError, SyntaxError, ValueError, EOFError, struct_error()) as error:
            raise DamagedFile(f"{self._name} is damaged: page {index + 1} cannot be decoded ({error}).") from error

    def close(self) -> None:
        """Give its memory back."""
        self._image.close()


def struct_error() -> type[Exception]:
    """Return the error of values that do not fit their bytes, which decoders let through."""
    import struct

    return struct.error


def _opened(content: bytes, name: str) -> Image:
    from PIL import Image, UnidentifiedImageError
    from PIL.JpegImagePlugin import JpegImageFile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if content.startswith(_JPEG):
                # Pillow's own bound is for pictures that are decoded whole; this one is read smaller than it is.
                return JpegImageFile(io.BytesIO(content))
            return Image.open(io.BytesIO(content), formats=["PNG", "TIFF", "WEBP"])
        except Image.DecompressionBombError as error:
            pixels = str(error).split("(")[-1].split(" ")[0]
            raise _too_large(name, f"{int(pixels):,}" if pixels.isdigit() else "too many") from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise DamagedFile(f"{name} is damaged: it begins like a picture and cannot be decoded.") from error


def _too_large(name: str, pixels: object) -> InvalidInput:
    return InvalidInput(
        f"{name} has {pixels} pixels, and at most {MOST_PIXELS:,} are decoded.",
        remedy="Make it smaller: 150 to 300 dots per inch are enough.",
    )


def _decoded(image: Image, name: str) -> PictureSheet:
    from PIL import ImageOps

    width, height = image.size
    if image.format == "JPEG" and not image.info.get("progressive"):
        image.draft("RGB", (_DRAFT, _DRAFT))
    if math.prod(image.size) > MOST_PIXELS:
        raise _too_large(name, f"{math.prod((width, height)):,}")
    factor = max(image.size) // _DRAFT
    small = image.reduce(factor) if factor > 1 else image.copy()
    upright = _on_white(ImageOps.exif_transpose(small) or small)
    if (upright.width > upright.height) != (width > height) and width != height:
        width, height = height, width
    return PictureSheet(float(width), float(height), upright)


def _on_white(image: Image) -> Image:
    """Turn any picture into RGB; what is transparent becomes white, as on paper."""
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Modes of more than 8 bits are cut off by plain conversion, not scaled.
        low, high = image.getextrema()
        span = max(1e-9, float(high) - float(low))  # type: ignore[arg-type]
        image = image.convert("F").point(lambda value: value * (255 / span) - float(low) * 255 / span)  # type: ignore[arg-type]
        return image.convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        paper = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(paper, layered).convert("RGB")
    return image.convert("RGB")


@dataclass
class PictureSheet:
    """A picture as a page; it has no text layer."""

    width: float
    height: float
    image: Image
    unit: Literal["pt", "px"] = "px"
    rotation: int = field(default=0)

    def words(self) -> tuple[Word, ...] | None:
        """Return None: a picture has no text layer."""
        return None

    def last_resort(self) -> tuple[Word, ...]:
        """Return nothing: a picture has no text layer."""
        return ()

    def picture(self, most: int) -> Image:
        """Return it, made smaller where it is larger."""
        scale = most / max(self.image.size)
        if scale >= 1:
            return self.image
        size = (max(1, round(self.image.width * scale)), max(1, round(self.image.height * scale)))
        from PIL import Image

        return self.image.resize(size, Image.Resampling.LANCZOS)
