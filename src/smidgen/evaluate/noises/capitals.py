"""A text typed with the capital lock on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smidgen.evaluate.noises._noise import Noise


@dataclass(frozen=True)
class Capitals(Noise):
    """Everything in capitals: the same words in other tokens, since tokenizers tell capitals from small letters.

    Every letter with a capital is hit; the seed does not matter. What stays one character stays it, so that no letter
    becomes two. Answers get them too, since who is asked in capitals may answer in them.

    Example:
        >>> Capitals().put_on("The straße.")
        'THE STRAßE.'
    """

    on_answers: ClassVar[bool] = True

    def put_on(self, text: str, seed: int = 0) -> str:
        """Return a text in capitals."""
        return "".join(letter.upper() if len(letter.upper()) == 1 else letter for letter in text)
