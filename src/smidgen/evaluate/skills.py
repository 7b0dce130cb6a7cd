"""Small questions of many kinds that every machine has, to see which skill a model lost: no files, no network.

Each question is a beginning and two to four ways to end it, of which one is right; the model chooses by likelihood.
They are too easy for large models and meant for small ones. Numbers and names are drawn with a fixed seed, so that the
questions are the same everywhere and always.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

VERSION = 1
"""Of the questions: figures compare only within one version."""

EACH = 20
"""Questions of each skill."""

_SEED = 20
_CHOICES = 4


@dataclass(frozen=True)
class SkillQuestion:
    """One question.

    Attributes:
        skill: The skill it asks for.
        prompt: Its beginning.
        endings: The ways to end it, each with the space before it.
        right: Number of the right one.
    """

    skill: str
    prompt: str
    endings: tuple[str, ...]
    right: int


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_CAPITALS = _list(
    "France Paris Italy Rome Spain Madrid Germany Berlin Japan Tokyo China Beijing Russia Moscow Egypt Cairo Greece "
    "Athens England London Ireland Dublin Portugal Lisbon Austria Vienna Poland Warsaw Norway Oslo Sweden Stockholm "
    "Cuba Havana Kenya Nairobi Peru Lima Turkey Ankara"
)
_OPPOSITES = _list(
    "hot cold big small up down left right day night black white open closed fast slow old young rich poor hard soft "
    "happy sad wet dry full empty early late high low light dark first last true false strong weak love hate"
)
_KINDS = {
    "bird": _list("sparrow eagle pigeon owl crow"),
    "fruit": _list("apple banana pear cherry plum"),
    "tool": _list("hammer saw drill wrench chisel"),
    "fish": _list("trout salmon tuna cod herring"),
}
_THINGS = _list("key book lamp window letter picture garden bottle table river")
_NAMES = _list("Anna Ben Clara David Emma Frank Grace Henry Iris Jack")
_WORDS = _list("stone river apple cloud horse paper candle bridge silver garden window basket")
_ROWS = (
    _list("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    _list("January February March April May June July August September October November December"),
    _list("one two three four five six seven eight nine ten"),
    _list("A B C D E F G H I J K L M"),
    _list("first second third fourth fifth sixth seventh eighth"),
)


def questions(only: Sequence[str] = ()) -> tuple[SkillQuestion, ...]:
    """Return the questions, `EACH` of every skill.

    Args:
        only: Skills to be asked for; all where empty.

    Example:
        >>> question = questions(["facts"])[0]
        >>> question.prompt, question.endings[question.right]
        ('The capital of France is', ' Paris')
    """
    made: list[SkillQuestion] = []
    for skill, make in _SKILLS.items():
        if not only or skill in only:
            chance = random.Random(f"{_SEED} {skill}")
            asked: dict[str, SkillQuestion] = {}
            source = make(chance)
            while len(asked) < EACH:
                prompt, right, wrong = next(source)
                if prompt not in asked:
                    asked[prompt] = _mixed(skill, prompt, right, wrong, chance)
            made += asked.values()
    return tuple(made)


def names() -> tuple[str, ...]:
    """List the skills.

    Example:
        >>> names()
        ('facts', 'opposites', 'kinds', 'grammar', 'order', 'copying', 'comparing', 'arithmetic')
    """
    return tuple(_SKILLS)


_Made = Iterator[tuple[str, str, Sequence[str]]]
"""Beginning, right ending, wrong endings."""


def _mixed(skill: str, prompt: str, right: str, wrong: Sequence[str], chance: random.Random) -> SkillQuestion:
    endings = [right, *wrong]
    chance.shuffle(endings)
    return SkillQuestion(skill, prompt, tuple(f" {ending}" for ending in endings), endings.index(right))


def _others(known: Sequence[str], right: str, chance: random.Random) -> list[str]:
    return chance.sample([each for each in known if each != right], _CHOICES - 1)


def _facts(chance: random.Random) -> _Made:
    cities = _CAPITALS[1::2]
    for country, city in zip(_CAPITALS[::2], cities, strict=True):
        yield f"The capital of {country} is", city, _others(cities, city, chance)


def _opposites(chance: random.Random) -> _Made:
    pairs = list(zip(_OPPOSITES[::2], _OPPOSITES[1::2], strict=True))
    for one, two in [*pairs, *((two, one) for one, two in pairs)]:
        others = [each for each in _OPPOSITES if each not in (one, two)]
        yield f"The opposite of {one} is", two, chance.sample(others, _CHOICES - 1)


def _kinds(chance: random.Random) -> _Made:
    everything = [(kind, each) for kind, members in _KINDS.items() for each in members]
    chance.shuffle(everything)
    for kind, each in everything:
        article = "An" if each[0] in "aeiou" else "A"
        yield f"{article} {each} is a kind of", kind, [other for other in _KINDS if other != kind]


def _grammar(chance: random.Random) -> _Made:
    while True:
        one, two = chance.sample(_THINGS, 2)
        many = chance.random() < 0.5
        subject = f"{one}s" if many else one
        yield f"The {subject} near the {two if many else two + 's'}", "are" if many else "is", ["is" if many else "are"]


def _order(chance: random.Random) -> _Made:
    while True:
        row = chance.choice(_ROWS)
        place = chance.randrange(len(row) - 3)
        right = row[place + 3]
        others = [each for each in row if each not in row[place : place + 4]]
        if len(others) >= _CHOICES - 1:
            yield f"{', '.join(row[place : place + 3])},", right, chance.sample(others, _CHOICES - 1)


def _copying(chance: random.Random) -> _Made:
    while True:
        row = chance.sample(_WORDS, 8)
        place = chance.randrange(3, 8)
        right = row[place]
        yield f"{' '.join(row)}. Again: {' '.join(row[:place])}", right, _others(row, right, chance)


def _comparing(chance: random.Random) -> _Made:
    while True:
        first, second, third = chance.sample(_NAMES, 3)
        more, least, most = chance.choice(
            [("older", "youngest", "oldest"), ("taller", "shortest", "tallest"), ("faster", "slowest", "fastest")]
        )
        asked, right = chance.choice([(most, first), (least, third)])
        told = [f"{first} is {more} than {second}.", f"{second} is {more} than {third}."]
        chance.shuffle(told)
        yield (
            f"{' '.join(told)} The {asked} of the three is",
            right,
            [each for each in (first, second, third) if each != right],
        )


def _arithmetic(chance: random.Random) -> _Made:
    while True:
        one, two = chance.randrange(2, 50), chance.randrange(2, 50)
        right = one + two
        wrong = sorted({right + step for step in (-10, -2, -1, 1, 2, 10)} - {one, two})
        yield f"2 + 3 = 5. 11 + 4 = 15. {one} + {two} =", str(right), [str(each) for each in chance.sample(wrong, 3)]


_SKILLS: dict[str, Callable[[random.Random], _Made]] = {
    "facts": _facts,
    "opposites": _opposites,
    "kinds": _kinds,
    "grammar": _grammar,
    "order": _order,
    "copying": _copying,
    "comparing": _comparing,
    "arithmetic": _arithmetic,
}
