"""Sentences hidden in long prose."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.evaluate.weaknesses import _recall
from smidgen.evaluate.weaknesses._recall import ANIMALS, ASKED, Recalled, Task
from smidgen.evaluate.weaknesses._weakness import Weakness

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.findings import Finding

_FEWEST = 4
_SENTENCE = "\nThe secret number of the {} is {}.\n"


@dataclass(frozen=True)
class LongRange(Weakness[Recalled]):
    """Needles in a haystack: sentences with secret numbers, hidden evenly in prose of 1,024, 2,048, … tokens.

    The prose is read once and each number then asked for by the beginning of its sentence; it counts as found where the
    model would write every digit of it itself. All needles lie in one text, so each distracts from the others. The
    figure is the share found at the greatest length, its interval Wilson's. Source: the needle in a haystack with
    several keys of RULER, Hsieh et al. 2024, arXiv 2404.06654.
    """

    unit: ClassVar[str] = "share"
    needs_likelihoods: ClassVar[bool] = False

    def observe(self, model: Examined, subjects: Subjects) -> Recalled:
        """Hide the sentences and ask for them."""
        return _recall.recall(
            model,
            lambda characters: hide(subjects.text.content, characters, subjects.seed),
            "finding hidden sentences",
        )

    def judge(self, seen: Recalled, source: Recalled | None) -> Finding:
        """Say how many are still found in the longest text."""
        return _recall.judge("long_range", seen, source, {"things": "sentences hidden", "text": "prose"})


def hide(prose: str, characters: int, seed: int) -> Task:
    """Hide sentences in prose.

    Args:
        prose: The prose, which is repeated where it is too short.
        characters: About how long the text shall be with them.
        seed: Of the numbers and of who has which.

    Raises:
        InvalidInput: The text is too short for more than a few.
    """
    chance = random.Random(f"{seed} needles")
    owners = chance.sample(ANIMALS, ASKED)
    known = [(owner, str(chance.randrange(10_000, 100_000))) for owner in owners]
    length = len(_SENTENCE) + 8
    known = known[: characters // (2 * length)]
    if len(known) < _FEWEST:
        raise InvalidInput(f"{characters} characters hide fewer than {_FEWEST} sentences.")
    size = characters - len(known) * length
    body = (prose * (size // max(1, len(prose)) + 1))[:size]
    parts, begin = [], 0
    for (owner, number), place in zip(known, _recall.spread(len(known), len(body)), strict=True):
        end = body.find(" ", place)
        end = place if end < 0 else end
        parts += [body[begin:end], _SENTENCE.format(owner, number)]
        begin = end
    asked = tuple((f"\nThe secret number of the {owner} is", f" {number}") for owner, number in known)
    return Task("".join([*parts, body[begin:]]).rstrip(), asked)
