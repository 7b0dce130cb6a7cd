"""Any rows of a prompt and words that must come in the answer."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.benchmarks._written import WrittenBenchmark


@dataclass(frozen=True)
class Contains(WrittenBenchmark):
    """Your own questions, whose answer must contain a reference.

    Attributes:
        ignore_case: Whether capital letters are as good as small ones.
    """

    ignore_case: bool = True

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether the answer is right."""
        text = answer.text.casefold() if self.ignore_case else answer.text
        wanted = [each.casefold() if self.ignore_case else each for each in question.references]
        return {"acc": float(any(each.strip() in text for each in wanted))}
