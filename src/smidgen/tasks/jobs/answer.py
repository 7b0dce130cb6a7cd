"""Questions about a text, answered with the sentence that the answer stands on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.jobs.summarize import finished_text
from smidgen.tasks.passages import content_words, overlap, sentences, shortened, within_words
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_above, require_text, said

_WORDS, _RESERVED = 40, 160
_SATURATION, _LENGTH_SHARE = 1.2, 0.75
_GROUNDED = 0.7


@dataclass(frozen=True)
class Answer(Task):
    """Answer a question over a text, with the sentence that the answer stands on.

    The sentences that share most with the question (BM25, Robertson 1994) are given to the model, as many as ``read``
    and the context allow, in the order of the text. An answer is grounded where at least 7 in 10 of its words that say
    something stand in one of them; that sentence comes with it. An answer that is not grounded is never given: the
    sentence that shares most with the question is, and what the model wrote stands under ``written``. Where no sentence
    shares a word with the question, the answer is that the text does not say.

    Attributes:
        question: What is asked.
        read: Sentences that the model reads at most.

    Example:
        >>> ranked("Who wrote it?", ["It rained.", "Ann wrote it."])[0]
        1
    """

    question: str = ""
    read: int = 12

    row_fields: ClassVar[tuple[str, ...]] = ("question",)

    def __post_init__(self) -> None:
        require_above("read", self.read, 1)

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked about the sentences that are read."""
        order = "Answer the question in one short sentence, with what the text says and nothing else."
        return said(("system", order), ("user", f"Text: {text}\n\nQuestion: {self.question}"))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Answer the question."""
        if not self.question.strip():
            raise InvalidInput("There is no question.", remedy="Give one with --question.")
        whole = sentences(require_text(text))
        order = ranked(self.question, whole)[: self.read]
        if not order:
            yield "The text does not say."
            return {
                "text": "The text does not say.",
                "sentence": None,
                "grounded": False,
                "found": False,
                "written": "",
            }
        context = self._within(whole, order, model)
        written = finished_text(within_words(model.write(self.turns(context), Manner(96)), _WORDS))
        words = content_words(written)
        best = max(order, key=lambda number: (overlap(words, content_words(whole[number])), -order.index(number)))
        grounded = overlap(words, content_words(whole[best])) >= _GROUNDED and not _parrots(written, self.question)
        best = best if grounded else order[0]
        text = written if grounded else whole[best]
        yield text
        return {"text": text, "sentence": whole[best], "grounded": grounded, "found": True, "written": written}

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return the sentence that the answer stands on."""
        return f"“{result['sentence']}”" if result["grounded"] else ""

    def _within(self, whole: Sequence[str], order: Sequence[int], model: LanguageModel) -> str:
        """Return the best sentences that fit the context together, as the text has them."""
        room = model.context - _RESERVED - model.count(self.question)
        chosen: list[int] = []
        for number in order:
            tried = sorted([*chosen, number])
            if model.count(" ".join(whole[each] for each in tried)) > room:
                break
            chosen = tried
        return " ".join(whole[each] for each in chosen) or shortened(whole[order[0]], max(1, room), model)


def _parrots(written: str, question: str) -> bool:
    """Whether an answer says nothing that the question does not."""
    return set(content_words(written)) <= set(content_words(question))


def ranked(question: str, texts: Sequence[str]) -> list[int]:
    """Return the numbers of the texts that share words with a question, the best first, by BM25.

    A word of 5 letters or more also counts where only its first 5 are alike: "invented" finds "inventor".
    """
    asked = {_stem(word) for word in content_words(question)}
    bags = [Counter(_stem(word) for word in content_words(text)) for text in texts]
    mean = max(1.0, sum(bag.total() for bag in bags) / max(1, len(bags)))
    scores = []
    for bag in bags:
        score = 0.0
        for word in asked & bag.keys():
            holding = sum(word in other for other in bags)
            rarity = math.log(1 + (len(bags) - holding + 0.5) / (holding + 0.5))
            length = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * bag.total() / mean)
            score += rarity * bag[word] * (_SATURATION + 1) / (bag[word] + length)
        scores.append(score)
    return sorted(
        (number for number, score in enumerate(scores) if score > 0), key=lambda number: (-scores[number], number)
    )


def _stem(word: str) -> str:
    return word[:5]
