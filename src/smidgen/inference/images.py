"""Images as people send them: bounded before they are unpacked, and made plain for the engine.

The engine's own decoder takes anything that says it is an image, a sound or a film, and unpacks all that a file
holds, whatever size its head names. So each image is read here, by Pillow, in the few formats that people send; what
goes on is a PNG of just its pixels.
"""

from __future__ import annotations

import base64
import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What is read; of a moving one the first picture."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")

MOST_PIXELS = 64 << 20
"""Pixels of all images of one request together, where nobody says."""

MOST_BYTES = 100 << 20
"""Bytes of an image's file that is named in a prompt."""

PLACE = "[img]"
"""Where a prompt says that an image belongs; images without a place stand before the text."""

_QUICK = 1
"""How hard zlib packs: the engine unpacks it at once."""

_one_at_a_time = threading.Lock()


def pixels_of(data: bytes) -> int:
    """Return how many pixels an image has, as its head says, without unpacking it.

    Raises:
        InvalidInput: It is no image in one of `FORMATS`.
    """
    with _opened(data) as image:
        return int(image.width * image.height)


def plain(data: bytes, most_pixels: int = MOST_PIXELS) -> bytes:
    """Return an image as an RGB PNG: upright, on white where it was transparent, with nothing but its pixels.

    Args:
        data: The file's bytes.
        most_pixels: Images with more are refused unopened.

    Raises:
        InvalidInput: It is no image, is damaged, or is too large.
    """
    from PIL import ImageOps

    with _opened(data) as image:
        if image.width * image.height > most_pixels:
            raise InvalidInput(f"an image of {image.width} x {image.height} pixels is larger than {most_pixels} pixels")
        flat = _flat(ImageOps.exif_transpose(image))
        packed = io.BytesIO()
        flat.save(packed, "PNG", compress_level=_QUICK)
        return packed.getvalue()


def plain_all(images: Sequence[bytes], most_pixels: int = MOST_PIXELS) -> list[bytes]:
    """Make several images plain that together may have so many pixels.

    Raises:
        InvalidInput: One is no image, or together they are too large.
    """
    left, found = most_pixels, []
    for data in images:
        left -= pixels_of(data)
        if left < 0:
            raise InvalidInput(f"the images are larger than {most_pixels} pixels together")
        found.append(plain(data, most_pixels))
    return found


def read(path: Path) -> bytes:
    """Read an image's file and make it plain.

    Raises:
        ReferenceNotFound: There is no such file.
        InvalidInput: It is no image, or too large.
    """
    data = bytes_of(path, "image", MOST_BYTES)
    try:
        return plain(data)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}.", remedy="Give a PNG, JPEG, WebP, GIF or BMP.") from None


def bytes_of(path: Path, kind: str, most: int) -> bytes:
    """Return a file's bytes.

    Args:
        path: The file.
        kind: What it is to be, for messages.
        most: Bytes that it may have.

    Raises:
        ReferenceNotFound: There is no such file.
        InvalidInput: It is too large.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ReferenceNotFound(f"The {kind} {path} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise InvalidInput(f"The {kind} {path} is larger than {most:,} bytes.")
    return data


def marked(text: str, count: int, mark: str) -> str:
    """Put the engine's mark where each image belongs: at the places the text names, the others before it.

    Example:
        >>> marked("What is it?", 1, "<image>"), marked("Is [img] like [img]?", 2, "<image>")
        ('<image>What is it?', 'Is <image> like <image>?')
    """
    placed = min(count, text.count(PLACE))
    return mark * (count - placed) + text.replace(PLACE, mark, placed)


def data_address(png: bytes) -> str:
    """Return an image as the address that OpenAI's routes take."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def parts(text: str, images: Sequence[bytes]) -> str | list[dict[str, Any]]:
    """Return a turn's content as OpenAI's routes take it: a text, or the images and then the text.

    Example:
        >>> parts("Hello", ())
        'Hello'
        >>> [part["type"] for part in parts("What is it?", [b"PNG"])]
        ['image_url', 'text']
    """
    if not images:
        return text
    seen = [{"type": "image_url", "image_url": {"url": data_address(image)}} for image in images]
    return [*seen, {"type": "text", "text": text}]


@contextmanager
def _opened(data: bytes) -> Iterator[Image]:
    """Open an image without unpacking it; one at a time, so that many at once do not fill the memory."""
    from PIL import Image

    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow would say of large images, our own bound says
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                yield image
        except InvalidInput:
            raise
        except Image.DecompressionBombError as error:
            raise InvalidInput("an image has too many pixels") from error
        except Exception as error:  # damaged files bring out errors of every kind
            raise InvalidInput(f"an image cannot be read as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from error


def _flat(image: Any) -> Image:
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256, "L")
    if image.mode not in ("RGBA", "LA", "PA", "La", "RGBa") and "transparency" not in image.info:
        flat: Image.Image = image.convert("RGB")
        return flat
    seen = image.convert("RGBA")
    white = Image.new("RGBA", seen.size, "white")
    white.alpha_composite(seen)
    return white.convert("RGB")
