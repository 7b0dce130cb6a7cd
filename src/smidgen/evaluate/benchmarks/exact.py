"""Any rows of a prompt and the answer that must come."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.benchmarks._written import WrittenBenchmark


@dataclass(frozen=True)
class Exact(WrittenBenchmark):
    """Your own questions, whose answer must be a reference exactly.

    White space around either does not count.

    Attributes:
        ignore_case: Whether capital letters are as good as small ones.
    """

    ignore_case: bool = False

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether the answer is right."""
        wanted = {_plain(each, self.ignore_case) for each in question.references}
        return {"acc": float(_plain(answer.text, self.ignore_case) in wanted)}


def _plain(text: str, ignore_case: bool) -> str:
    return text.strip().casefold() if ignore_case else text.strip()
