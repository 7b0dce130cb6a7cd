"""What every kind of noise is: a text in, the same text with errors out."""

from __future__ import annotations

import abc
import random
from typing import ClassVar


class Noise(abc.ABC):
    """A kind of noise.

    Attributes:
        on_answers: Whether a model that reads it would answer in the same way, so that answers get it too.
    """

    on_answers: ClassVar[bool] = False

    @abc.abstractmethod
    def put_on(self, text: str, seed: int = 0) -> str:
        """Return a text with errors in it.

        Args:
            text: The clean text.
            seed: Which errors; the same seed gives the same ones.
        """


def generator(text: str, seed: int) -> random.Random:
    """Return the generator of one text's errors, which depends on nothing but the text and the seed."""
    return random.Random(f"{seed} {text}")
