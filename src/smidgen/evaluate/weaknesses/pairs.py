"""Values looked up by their keys in a long list."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.evaluate.weaknesses import _recall
from smidgen.evaluate.weaknesses._recall import ANIMALS, ASKED, COLOURS, Recalled, Task
from smidgen.evaluate.weaknesses._weakness import Weakness

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.findings import Finding

_FEWEST = 8


@dataclass(frozen=True)
class Pairs(Weakness[Recalled]):
    """Recall of values by keys: a list of keys with numbers that fills 1,024, 2,048, … tokens, some of them asked for.

    Harder than single sentences in prose, since every line looks like the one that is wanted. A value counts as found
    where the model would write every digit of it itself; the figure is the share at the greatest length, its interval
    Wilson's. Source: the key-value retrieval of Liu et al. 2023, arXiv 2307.03172, with short keys in place of UUIDs.
    """

    unit: ClassVar[str] = "share"
    needs_likelihoods: ClassVar[bool] = False

    def observe(self, model: Examined, subjects: Subjects) -> Recalled:
        """Make the lists and ask for values."""
        return _recall.recall(model, lambda characters: listed(characters, subjects.seed), "looking up values")

    def judge(self, seen: Recalled, source: Recalled | None) -> Finding:
        """Say how many are still found in the longest list."""
        return _recall.judge("pairs", seen, source, {"things": "values looked up", "text": "a list of keys"})


def listed(characters: int, seed: int) -> Task:
    """Make a list of keys and values.

    Args:
        characters: About how long it shall be.
        seed: Of keys and values.

    Raises:
        InvalidInput: So few characters hold fewer than a few pairs.
    """
    chance = random.Random(f"{seed} pairs")
    names = [f"{colour} {animal}" for colour in COLOURS for animal in ANIMALS]
    chance.shuffle(names)
    lines: list[tuple[str, str]] = []
    size = 0
    while size < characters:
        place = len(lines)
        again = f" {place // len(names) + 1}" if place >= len(names) else ""
        lines.append((names[place % len(names)] + again, str(chance.randrange(10_000, 100_000))))
        size += len(f'"{lines[-1][0]}": "{lines[-1][1]}"\n')
    if len(lines) < _FEWEST:
        raise InvalidInput(f"{characters} characters hold fewer than {_FEWEST} pairs.")
    places = _recall.spread(min(ASKED, len(lines)), len(lines))
    asked = tuple((f'\n"{lines[place][0]}": "', lines[place][1]) for place in places)
    return Task("\n".join(f'"{key}": "{value}"' for key, value in lines), asked)
