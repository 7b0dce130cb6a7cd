"""Two answers side by side, with the words marked that only one of them has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

_WORD = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True)
class Piece:
    """A stretch of an answer; ``own`` where the other answer does not have it."""

    text: str
    own: bool


@dataclass(frozen=True)
class Sample:
    """A prompt and what both models answered.

    Attributes:
        prompt: The question.
        source: The source's answer in pieces.
        result: The result's answer in pieces.
        alike: Share of the words that both have in common, 0 to 1.
    """

    prompt: str
    source: tuple[Piece, ...]
    result: tuple[Piece, ...]
    alike: float


def compare(sample: Mapping[str, str]) -> Sample:
    """Find the words in which two answers differ.

    Example:
        >>> found = compare({"prompt": "?", "source": "It is blue.", "result": "It is green."})
        >>> [(piece.text, piece.own) for piece in found.result]
        [('It is ', False), ('green', True), ('.', False)]
    """
    one, two = (_WORD.findall(sample[side]) for side in ("source", "result"))
    matcher = difflib.SequenceMatcher(None, one, two, autojunk=False)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, begin, end, start, stop in matcher.get_opcodes():
        for side, words in zip(sides, (one[begin:end], two[start:stop]), strict=True):
            if words:
                side.append(Piece("".join(words), kind != "equal"))
    return Sample(sample["prompt"], tuple(sides[0]), tuple(sides[1]), matcher.ratio())
