"""What a page is: words with boxes, in the frame in which the page is read upright."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Source = Literal["text", "ocr"]


@dataclass(frozen=True)
class Box:
    """A rectangle on a page; the origin is the upper left corner.

    Example:
        >>> Box(0, 0, 4, 2).joined(Box(3, 1, 6, 5))
        Box(left=0, top=0, right=6, bottom=5)
    """

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Extent from left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Extent from top to bottom."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """Vertical centre."""
        return (self.top + self.bottom) / 2

    def joined(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def overlap_across(self, other: Box) -> float:
        """Return how much of the narrower box's width lies over or under the other, 0 to 1."""
        shared = min(self.right, other.right) - max(self.left, other.left)
        return max(0.0, shared) / max(1e-9, min(self.width, other.width))

    def overlap_along(self, other: Box) -> float:
        """Return how much of the lower box's height lies beside the other, 0 to 1."""
        shared = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, shared) / max(1e-9, min(self.height, other.height))

    def rounded(self) -> list[float]:
        """Return left, top, right, bottom with one decimal, as JSON has them."""
        return [round(value, 1) for value in (self.left, self.top, self.right, self.bottom)]


def around(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around all.

    Example:
        >>> around([Box(0, 0, 1, 1), Box(2, 2, 3, 3)])
        Box(left=0, top=0, right=3, bottom=3)
    """
    first, *rest = boxes
    for box in rest:
        first = first.joined(box)
    return first


@dataclass(frozen=True)
class Word:
    """A word on a page.

    Attributes:
        text: What it says, without white space.
        box: Where it stands.
        straight: Where it would stand if the page were not skewed; what the layout goes by.
        score: How sure the reader is of the text, 0 to 1; 1 for a text layer.
    """

    text: str
    box: Box
    straight: Box
    score: float = 1.0


@dataclass(frozen=True)
class Page:
    """A page that was read.

    Attributes:
        number: Counted from 1.
        width: Of the upright page, in ``unit``.
        height: Of the upright page, in ``unit``.
        unit: "pt" (1/72 inch) for PDF, "px" for pictures.
        words: In no particular order.
        source: Whether the words come from a text layer or from OCR.
        rotation: Degrees by which the page was turned clockwise to be upright: 0, 90, 180 or 270.
        skew: Degrees by which its lines fall to the right, once upright.
    """

    number: int
    width: float
    height: float
    unit: Literal["pt", "px"]
    words: tuple[Word, ...]
    source: Source
    rotation: int = 0
    skew: float = 0.0
