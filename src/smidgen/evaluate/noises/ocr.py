"""Errors of a machine that reads scans."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.errors import InvalidInput
from smidgen.evaluate.noises._noise import Noise, generator

_ALIKE: tuple[tuple[str, str], ...] = (
    ("rn", "m"),
    ("cl", "d"),
    ("vv", "w"),
    ("in", "m"),
    ("h", "b"),
    ("e", "c"),
    ("l", "1"),
    ("l", "I"),
    ("i", "l"),
    ("o", "0"),
    ("O", "0"),
    ("t", "f"),
    ("u", "n"),
    ("S", "5"),
    ("s", "5"),
    ("B", "8"),
    ("Z", "2"),
    ("g", "9"),
    ("b", "6"),
    (".", ","),
    (" ", ""),
)
"""Shapes that are read as one another, both ways, but for white space, which is only lost."""


def _readings() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for one, two in _ALIKE:
        found.setdefault(one, []).append(two)
        if two:
            found.setdefault(two, []).append(one)
    return {shape: tuple(others) for shape, others in found.items()}


_MISREAD = _readings()


@dataclass(frozen=True)
class Ocr(Noise):
    """Reading errors of OCR: shapes taken for others that look alike (``rn`` for ``m``, ``1`` for ``l``), lost spaces.

    Each place of the text where a shape begins that is easily misread is hit with probability ``share``; two letters
    that look like one are tried before one. Sources: the kinds of error, substitutions such as ``h`` read as ``b`` and
    ``in`` as ``m`` and lost spaces, as the Succeed project's guide to types of OCR errors shows them
    (digitisation.eu); swaps do not occur there. Noise by a channel of character errors as in Kolak and Resnik 2002.

    Attributes:
        share: Share of the easily misread places that are hit, 0 to 1.

    Example:
        >>> Ocr(0.3).put_on("The morning bill is 100.")
        'The mornmg blli is 100.'
    """

    share: float = 0.06

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InvalidInput(f"A share of {self.share} places cannot be hit.", remedy="Give 0 to 1.")

    def put_on(self, text: str, seed: int = 0) -> str:
        """Return a text with reading errors in it."""
        chance = generator(text, seed)
        read: list[str] = []
        place = 0
        while place < len(text):
            shape = next((each for each in (text[place : place + 2], text[place]) if each in _MISREAD), text[place])
            if shape in _MISREAD and chance.random() < self.share:
                read.append(chance.choice(_MISREAD[shape]))
                place += len(shape)
            else:
                read.append(text[place])
                place += 1
        return "".join(read)
