"""Any rows of a prompt and a text that the answer should be like, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.benchmarks._written import WrittenBenchmark, by_place


@dataclass(frozen=True)
class Bleu(WrittenBenchmark):
    """Your own questions, whose answer should be like a reference: BLEU, by runs of words.

    ``bleu`` is the mean over answers, ``corpus_bleu``, the published figure, that of all answers together; both lie
    between 0 and 1 and are the hundredth part of what sacrebleu prints. Source: Papineni et al. 2002, doi
    10.3115/1073083.1073135.

    Example:
        >>> question = Question(("Translate: Der Hund schläft",), references=("The dog is asleep",))
        >>> round(Bleu().score(question, Answer(text="The dog is here"))["bleu"], 4)
        0.5946
    """

    main: ClassVar[str] = "bleu"

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Return how like a reference the answer is."""
        from sacrebleu import sentence_bleu

        return {"bleu": sentence_bleu(answer.text.strip(), list(question.references)).score / 100}

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return BLEU of all answers together."""
        from sacrebleu import corpus_bleu

        written = [answer.text.strip() for answer in answers]
        return {"corpus_bleu": corpus_bleu(written, by_place(questions)).score / 100}
