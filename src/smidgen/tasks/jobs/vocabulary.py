"""Words of a text, or of a list, to be learned."""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.passages import STOP_WORDS, sentences, shortened, within_words
from smidgen.tasks.spaced_repetition import Card, Deck
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_above, require_text, said

GAP = "_____"
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SHORTEST, _CHOICES, _MEANING, _SENTENCE = 5, 4, 15, 20


@dataclass(frozen=True)
class Vocabulary(Task):
    """Make exercises of the rarer words of a text, or of a list of words one a line, and say when to repeat them.

    Each word comes with its meaning and a sentence with a gap to be filled from four words. The sentence is that of the
    text; for a word of a list the model writes one. Rare is what the model's tokenizer spells in many pieces. A deck
    keeps the cards and their days by SM-2 (Wozniak 1990).

    Attributes:
        count: Most words.
        language: The language that is learned.
        explain_in: The language of the meanings.
        deck: File that keeps the cards.
        grades: How well words were known, as "brisk=4", from 0 to 5.
        due: Ask what is due in the deck, and make nothing new.
        day: The day to count from, as 2026-11-23; today where None.
        seed: Another seed mixes the choices in another way.

    Example:
        >>> gapped("It was a brisk walk.", "brisk")
        'It was a _____ walk.'
    """

    count: int = 10
    language: str = "English"
    explain_in: str = "English"
    deck: str | None = None
    grades: tuple[str, ...] = ()
    due: bool = False
    day: str | None = None
    seed: int = 0

    taught_by: ClassVar[tuple[str, ...]] = ()
    streams: ClassVar[bool] = False
    local_fields: ClassVar[tuple[str, ...]] = ("deck", "grades", "due")

    def __post_init__(self) -> None:
        require_above("count", self.count, 1)
        if (self.grades or self.due) and self.deck is None:
            raise InvalidInput("There is no deck.", remedy="Name its file: --deck words.json.")
        self._grades()
        self._day()

    def needs_text(self) -> bool:
        """A deck can be asked without a text."""
        return not (self.due or self.grades)

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked about a word, given as ``word | sentence``."""
        word, _, sentence = text.partition(" | ")
        order = f"Explain the {self.language} word in {self.explain_in} in at most ten words, without using it."
        return said(("system", order), ("user", f"Sentence: {sentence}\nWord: {word}" if sentence else f"Word: {word}"))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Make exercises, and keep the deck."""
        yield from ()
        day, deck = self._day(), None if self.deck is None else Deck(self.deck)
        made: list[dict[str, Any]] = []
        if deck is not None:
            deck.grade(self._grades(), day)
        if text.strip() or self.needs_text():
            made = self._exercises(require_text(text), model)
        added = 0
        if deck is not None:
            cards = [Card(each["word"], each["meaning"], each["exercise"]) for each in made]
            added = deck.add(cards, day)
            deck.save()
        waiting = [asdict(card) for card in deck.due(day)] if deck is not None else []
        return {"exercises": made, "added": added, "due": waiting}

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return the exercises, their solutions at the end, and what is due."""
        lines = []
        for number, each in enumerate(result["exercises"], 1):
            lines.append(f"{number}. {each['exercise']}  ({' / '.join(each['choices'])})")
        if lines:
            lines += [
                "",
                *(f"{number}. {each['word']}: {each['meaning']}" for number, each in enumerate(result["exercises"], 1)),
            ]
        if self.deck is not None:
            lines += [
                f"{result['added']} new cards; due now: "
                + (", ".join(card["word"] for card in result["due"]) or "none")
            ]
        return "\n".join(lines)

    def _exercises(self, text: str, model: LanguageModel) -> list[dict[str, Any]]:
        found = self._chosen(text, model)
        words, mixing = list(found), random.Random(self.seed)
        made = []
        for word in words:
            sentence = found[word] or self._sentence(word, model)
            others = [other for other in words if other != word]
            choices = [word, *mixing.sample(others, min(_CHOICES - 1, len(others)))]
            mixing.shuffle(choices)
            asked = self.turns(f"{word} | {shortened(sentence, model.context // 2, model)}")
            meaning = "".join(within_words(model.write(asked, Manner(48)), _MEANING))
            made.append({"word": word, "meaning": meaning, "exercise": gapped(sentence, word), "choices": choices})
        return made

    def _chosen(self, text: str, model: LanguageModel) -> dict[str, str]:
        """Return the words to learn, each with its sentence; an empty one for words of a list."""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if all(len(line.split()) <= 2 and not line.endswith((".", "!", "?")) for line in lines):
            return dict.fromkeys(list(dict.fromkeys(lines))[: self.count], "")
        found: dict[str, str] = {}
        for sentence in sentences(text):
            for word in _WORD.findall(sentence):
                if len(word) >= _SHORTEST and word.islower() and word not in STOP_WORDS:
                    found.setdefault(word, sentence)
        if not found:
            raise InvalidInput("The text has no words to learn.", remedy="Give a text, or words one a line.")
        rarest = sorted(found, key=lambda word: (-model.count(f" {word}"), -len(word), word))[: self.count]
        return {word: found[word] for word in found if word in set(rarest)}

    def _sentence(self, word: str, model: LanguageModel) -> str:
        order = f"Write one short {self.language} sentence with the word."
        pieces = model.write(said(("system", order), ("user", f"Word: {word}")), Manner(48))
        sentence = "".join(within_words(pieces, _SENTENCE))
        return sentence if re.search(rf"(?i)\b{re.escape(word)}\b", sentence) else word

    def _grades(self) -> dict[str, int]:
        found = {}
        for each in self.grades:
            word, sign, grade = each.rpartition("=")
            if not sign or not grade.strip().isdecimal():
                raise InvalidInput(
                    f"The grade {each!r} cannot be understood.", remedy="As in: --grades brisk=4,stale=2."
                )
            found[word.strip()] = int(grade)
        return found

    def _day(self) -> datetime.date:
        try:
            return datetime.date.today() if self.day is None else datetime.date.fromisoformat(self.day)
        except ValueError:
            raise InvalidInput(f"{self.day!r} is no day.", remedy="As in: --day 2026-11-23.") from None


def gapped(sentence: str, word: str) -> str:
    """Return a sentence with a gap for a word."""
    return re.sub(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", GAP, sentence)
