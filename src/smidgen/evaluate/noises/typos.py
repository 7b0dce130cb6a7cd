"""Errors of the hand that types."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from smidgen.errors import InvalidInput
from smidgen.evaluate.noises._noise import Noise, generator

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[^\W\d_]{3,}")


def _neighbours() -> dict[str, str]:
    """Return for each letter those beside, above and below it; each row is set off by half a key to the right."""
    found: dict[str, str] = {}
    for number, row in enumerate(_ROWS):
        for place, letter in enumerate(row):
            above = _ROWS[number - 1][place : place + 2] if number else ""
            below = _ROWS[number + 1][max(0, place - 1) : place + 1] if number + 1 < len(_ROWS) else ""
            found[letter] = row[max(0, place - 1) : place] + row[place + 1 : place + 2] + above + below
    return found


_KEYS = _neighbours()


@dataclass(frozen=True)
class Typos(Noise):
    """Typing errors: one wrong, missing, extra or swapped letter in some words, never the first one.

    Each word of at least three letters is hit with probability ``share``; the four kinds of error are equally likely,
    and a wrong letter is a neighbour on a QWERTY keyboard, where the letter has any. Sources: over 80% of misspelled
    words have a single error of one of these kinds (Damerau 1964, doi:10.1145/363958.363994; confirmed by Gimenes et
    al. 2015, doi:10.1162/COLI_a_00216); few errors fall on the first letter (Yannakoudakis and Fawthrop 1983).

    Attributes:
        share: Share of the words that are hit, 0 to 1.

    Example:
        >>> Typos(1.0).put_on("The weather was cold.")
        'Tne weatherr wqs ckld.'
    """

    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InvalidInput(f"A share of {self.share} words cannot be hit.", remedy="Give 0 to 1.")

    def put_on(self, text: str, seed: int = 0) -> str:
        """Return a text with typing errors in it."""
        chance = generator(text, seed)

        def hit(found: re.Match[str]) -> str:
            return _mistyped(found[0], chance) if chance.random() < self.share else found[0]

        return _WORD.sub(hit, text)


def _mistyped(word: str, chance: random.Random) -> str:
    place = chance.randrange(1, len(word))
    kind = chance.choice(("wrong", "missing", "extra", "swapped"))
    other = chance.choice(_KEYS.get(word[place].lower(), word[place]))
    other = other.upper() if word[place].isupper() else other
    if kind == "missing":
        return word[:place] + word[place + 1 :]
    if kind == "extra":
        return word[: place + 1] + other + word[place + 1 :]
    if kind == "swapped" and place + 1 < len(word) and word[place] != word[place + 1]:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + other + word[place + 1 :]
