"""What a person said at the beginning of a conversation, asked for several turns later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput, Unsupported
from smidgen.evaluate.weaknesses import _recall
from smidgen.evaluate.weaknesses._weakness import Weakness, percent
from smidgen.progress import track

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.findings import Finding
    from smidgen.inference.engine import Message

_ASKED_IN = (2, 4, 8)
_TOKENS = 24
_PEOPLE = (
    ("Rosa", "Lisbon", "Biko"),
    ("Martin", "Oslo", "Pepper"),
    ("Yusuf", "Ankara", "Luna"),
    ("Elena", "Vienna", "Rocket"),
)
_ASKS = ("What is my name?", "Which city do I live in?", "What is my dog called?")
_BETWEEN = (
    ("Which colour do blue and yellow paint make?", "Blue and yellow paint make green."),
    ("How many days has a week?", "A week has seven days."),
    ("What do bees make?", "Bees make honey and wax."),
    ("Which season comes after winter?", "Spring comes after winter."),
    ("What is ice made of?", "Ice is frozen water."),
    ("How many legs has a spider?", "A spider has eight legs."),
)


@dataclass(frozen=True)
class Turns(Weakness["dict[int, list[int]]"]):
    """Facts given in the first turn of a conversation, asked for in turn 2, 4 and 8.

    Four people each say their name, their city and their dog's name. Other questions with written answers lie between,
    the same for every model. The model then answers freely, always with its likeliest token, and is right where its
    answer contains the fact. The figure is the share remembered in the latest turn, its interval Wilson's.
    """

    unit: ClassVar[str] = "share"
    writes: ClassVar[bool] = True
    needs_likelihoods: ClassVar[bool] = False

    def observe(self, model: Examined, subjects: Subjects) -> dict[int, list[int]]:
        """Lead the conversations."""
        found: dict[int, list[int]] = {}
        cases = [(turn, person, place) for turn in _ASKED_IN for person in _PEOPLE for place in range(len(_ASKS))]
        for turn, person, place in track(
            cases, f"asking {model.name} in later turns", model.progress, unit="questions"
        ):
            try:
                answer, _ = model.write(conversation(person, turn, _ASKS[place]), _TOKENS)
            except InvalidInput:  # the conversation is longer than the context
                break
            found.setdefault(turn, []).append(int(person[place].lower() in answer.lower()))
        if not found:
            raise Unsupported("Its context is too short for a conversation of two turns.")
        return found

    def judge(self, seen: dict[int, list[int]], source: dict[int, list[int]] | None) -> Finding:
        """Say how much is remembered in the latest turn."""
        points = _recall.shares(seen)
        first, last = points[0], points[-1]
        said = f"Of what it was told in the first turn it remembers {percent(last.value)} in turn {last.at}"
        said += "." if len(points) == 1 else f" ({percent(first.value)} in turn {first.at})."
        if source is not None and (before := source.get(int(last.at))):
            said += f" Its source remembers {percent(sum(before) / len(before))}."
        return _recall.remembered("turns", points, "turn", said)


def conversation(person: tuple[str, str, str], turn: int, ask: str) -> list[Message]:
    """Return a conversation in whose first turn a person says three facts, and asks for one in a later turn."""
    from smidgen.inference.engine import Message

    name, city, dog = person
    told = [
        Message("user", f"Hello! My name is {name}, I live in {city} and my dog is called {dog}."),
        Message("assistant", "Nice to meet you! What can I do for you?"),
    ]
    for question, answer in _BETWEEN[: turn - 2]:
        told += [Message("user", question), Message("assistant", answer)]
    return [*told, Message("user", ask)]
