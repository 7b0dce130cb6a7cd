"""Finding on a page what a model wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.documents.layout import Layout
from smidgen.documents.page import Box, Word, around
from smidgen.documents.vocabulary import near, plain_word

_PIECE = re.compile(r"\w+(?:[.,'/-]\w+)*")
_ENOUGH = 0.85


@dataclass(frozen=True)
class Ground:
    """Where a text stands.

    Attributes:
        page: Number of the page.
        words: The words of the page that say it.
        quality: How well they match, 0 to 1.
    """

    page: int
    words: tuple[Word, ...]
    quality: float


def ground(text: str, layouts: Sequence[Layout]) -> Ground | None:
    """Find a text's words one after another on a page, None where no page says them.

    Words may differ by one letter from five letters on, as readers err; figures must be the same.

    Example:
        >>> from smidgen.documents.layout import lay_out
        >>> from smidgen.documents.page import Box, Page
        >>> box = Box(0, 0, 9, 9)
        >>> page = lay_out(Page(1, 9, 9, "px", (Word("Anna", box, box), Word("Lee", box, box)), "text"))
        >>> ground("anna lee", [page]).quality, ground("Bob", [page])
        (1.0, None)
    """
    wanted = [plain_word(piece) for piece in _PIECE.findall(text)]
    best: Ground | None = None
    for layout in layouts if wanted else ():
        words = [word for segment in layout.segments for word in segment.words]
        pieces = [(plain_word(piece), index) for index, word in enumerate(words) for piece in _PIECE.findall(word.text)]
        for begin in range(len(pieces) - len(wanted) + 1):
            part = pieces[begin : begin + len(wanted)]
            quality = sum(_match(one, other) for one, (other, _) in zip(wanted, part, strict=True)) / len(wanted)
            whole = all(_match(one, other) for one, (other, _) in zip(wanted, part, strict=True))
            if whole and quality >= _ENOUGH and (best is None or quality > best.quality):
                chosen = tuple(words[index] for index in dict.fromkeys(index for _, index in part))
                best = Ground(layout.page.number, chosen, quality)
    return best


def _match(one: str, other: str) -> float:
    if one == other:
        return 1.0
    has_figures = any(character.isdigit() for character in one + other)
    return 0.9 if not has_figures and len(one) >= 5 and near(one, other) else 0.0


def boxes_of(words: Sequence[Word]) -> tuple[Box, ...]:
    """Return one box for each line that words stand in."""
    lines: list[list[Word]] = []
    for word in words:
        if lines and lines[-1][-1].straight.overlap_along(word.straight) > 0.5:
            lines[-1].append(word)
        else:
            lines.append([word])
    return tuple(around([word.box for word in line]) for line in lines)
