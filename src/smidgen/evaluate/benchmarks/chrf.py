"""Any rows of a prompt and a text that the answer should be like, letter by letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.benchmarks._written import WrittenBenchmark, by_place


@dataclass(frozen=True)
class Chrf(WrittenBenchmark):
    """Your own questions, whose answer should be like a reference: chrF, by runs of characters.

    ``chrf`` is the mean over answers, ``corpus_chrf`` that of all answers together; both lie between 0 and 1 and are
    the hundredth part of what sacrebleu prints. Source: Popović 2015, doi 10.18653/v1/W15-3049.

    Example:
        >>> question = Question(("Translate: Hund",), references=("the dog",))
        >>> round(Chrf().score(question, Answer(text="a dog"))["chrf"], 4)
        0.3125
    """

    main: ClassVar[str] = "chrf"

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Return how like a reference the answer is."""
        from sacrebleu import sentence_chrf

        return {"chrf": sentence_chrf(answer.text.strip(), list(question.references)).score / 100}

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return chrF of all answers together."""
        from sacrebleu import corpus_chrf

        written = [answer.text.strip() for answer in answers]
        return {"corpus_chrf": corpus_chrf(written, by_place(questions)).score / 100}
