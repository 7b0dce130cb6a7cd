"""Reading words off a picture with RapidOCR, whose models lie in its package: nothing is downloaded."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from smidgen.documents.page import Box, Word
from smidgen.errors import MissingExtra

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray
    from PIL.Image import Image

MOST_PIXELS_LONG = 2200
"""Pixels of a page's longer side that are looked at; 190 dots per inch of an A4 page."""

_DETECTED = 1600
_UPRIGHT_SCORE = 0.88
_PROBES = 5
_TALL = 1.5
_THIN = 64


def require_installed() -> None:
    """Refuse to go on where the packages for documents are not installed.

    Raises:
        MissingExtra: One is missing; the remedy is the pip command.
    """
    import importlib.util

    needed = ("rapidocr", "onnxruntime", "pypdfium2", "dateparser", "price_parser", "phonenumbers", "stdnum")
    for package in (*needed, "jsonschema", "PIL"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.of("reading documents", package, "documents")


class Ocr:
    """Finds and reads the words of a picture.

    A page that lies on its side or upside down is told by how badly it reads: its longest lines are then read in
    the other directions, and the page is turned to the one that reads best.

    Args:
        threads: Threads to compute with.
    """

    def __init__(self, threads: int = 1) -> None:
        require_installed()
        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
        runtime = "EngineConfig.onnxruntime"
        self._engine: Any = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.max_side_len": MOST_PIXELS_LONG,
                # Words are looked for at this size; small pictures are not made larger for it.
                "Det.limit_type": "max",
                "Det.limit_side_len": _DETECTED,
                f"{runtime}.intra_op_num_threads": threads,
                f"{runtime}.inter_op_num_threads": 1,
            }
        )

    def read(self, image: Image) -> tuple[Image, int, float, tuple[Word, ...]]:
        """Read a picture.

        Args:
            image: In RGB.

        Returns:
            The picture turned upright, the degrees by which it was turned clockwise, the degrees by which its lines
            fall to the right, and its words, whose boxes are in pixels of the upright picture.
        """
        found = self._lines(image)
        turn = self._turn(image, found)
        if turn:
            image = image.rotate(-turn, expand=True)
            found = self._lines(image)
        skew = _skew(found)
        return image, turn, skew, tuple(_words(found, skew, image.size))

    def _lines(self, image: Image) -> Any:
        import numpy

        pixels = numpy.ascontiguousarray(numpy.asarray(roomy(image))[:, :, ::-1])
        return self._engine(pixels, use_det=True, use_cls=False, use_rec=True, return_word_box=True)

    def _turn(self, image: Image, found: Any) -> int:
        """Return the degrees clockwise by which a picture must be turned to be upright."""
        if found.boxes is None or not len(found.boxes):
            return 0
        longest = sorted(range(len(found.boxes)), key=lambda index: -_length(found.boxes[index]))[:_PROBES]
        tall = sum(_height(found.boxes[index]) > _TALL * _width(found.boxes[index]) for index in longest)
        lying = tall > len(longest) / 2
        sure = sum(found.scores[index] for index in longest) / len(longest)
        if not lying and sure >= _UPRIGHT_SCORE:
            return 0
        turns = (90, 270) if lying else (0, 180)
        strips = [_strip(image, found.boxes[index]) for index in longest]
        return max(turns, key=lambda turn: sum(self._score(strip, turn) for strip in strips))

    def _score(self, strip: Image, turn: int) -> float:
        import numpy

        turned = strip.rotate(-turn, expand=True) if turn else strip
        pixels: NDArray[numpy.uint8] = numpy.ascontiguousarray(numpy.asarray(turned)[:, :, ::-1])
        read = self._engine(pixels, use_det=False, use_cls=False, use_rec=True, return_word_box=False)
        return float(read.scores[0]) if read.scores else 0.0


def roomy(image: Image) -> Image:
    """Return a picture on paper of at least 64 pixels a side: the engine enlarges thin ones as a whole.

    Example:
        >>> from PIL import Image
        >>> roomy(Image.new("RGB", (2200, 1))).size
        (2200, 64)
    """
    from PIL import Image

    if min(image.size) >= _THIN:
        return image
    paper = Image.new("RGB", (max(_THIN, image.width), max(_THIN, image.height)), "white")
    paper.paste(image)
    return paper


def _words(found: Any, skew: float, size: tuple[int, int]) -> list[Word]:
    words: list[Word] = []
    for line in () if found.boxes is None else found.word_results:
        for text, score, corners in line:
            if text.strip():
                words.append(Word(text.strip(), _box(corners), _straightened(corners, skew, size), float(score)))
    return words


def _box(corners: Any) -> Box:
    across, down = [float(point[0]) for point in corners], [float(point[1]) for point in corners]
    return Box(min(across), min(down), max(across), max(down))


def _straightened(corners: Any, skew: float, size: tuple[int, int]) -> Box:
    """Return the box of a word as if the page were turned back by its skew about its middle."""
    if abs(skew) < 0.3:
        return _box(corners)
    cosine, sine = math.cos(math.radians(-skew)), math.sin(math.radians(-skew))
    middle = size[0] / 2, size[1] / 2
    turned = [
        (
            middle[0] + (float(x) - middle[0]) * cosine - (float(y) - middle[1]) * sine,
            middle[1] + (float(x) - middle[0]) * sine + (float(y) - middle[1]) * cosine,
        )
        for x, y in corners
    ]
    return _box(turned)


def _skew(found: Any) -> float:
    """Return the median slope of the longer lines, in degrees."""
    slopes = sorted(
        math.degrees(math.atan2(float(box[1][1] - box[0][1]), float(box[1][0] - box[0][0])))
        for box in (() if found.boxes is None else found.boxes)
        if _width(box) > 3 * _height(box)
    )
    return slopes[len(slopes) // 2] if slopes else 0.0


def _width(box: Any) -> float:
    return math.dist(box[0], box[1])


def _height(box: Any) -> float:
    return math.dist(box[0], box[3])


def _length(box: Any) -> float:
    return max(_width(box), _height(box))


def _strip(image: Image, box: Any) -> Image:
    place = _box(box)
    margin = 2
    return image.crop(
        (
            max(0, round(place.left) - margin),
            max(0, round(place.top) - margin),
            min(image.width, round(place.right) + margin),
            min(image.height, round(place.bottom) + margin),
        )
    )
