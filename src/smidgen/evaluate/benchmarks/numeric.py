"""Any rows of a prompt and a number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.benchmarks._written import WrittenBenchmark

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Numeric(WrittenBenchmark):
    """Your own questions, whose answer is the last number of what is written.

    Commas between digits do not count.

    Attributes:
        tolerance: How far the number may lie from the reference.

    Example:
        >>> last_number("From 3 to 1,250.5 in all.")
        1250.5
    """

    tolerance: float = 0.0

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        question = super().question(record)
        if any(last_number(reference) is None for reference in question.references):
            raise record.error("has an answer that is no number")
        return question

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether the number is a reference."""
        found = last_number(answer.text)
        wanted = [last_number(reference) for reference in question.references]
        near = [each is not None and found is not None and abs(found - each) <= self.tolerance for each in wanted]
        return {"acc": float(any(near))}


def last_number(text: str) -> float | None:
    """Return the last number of a text, None where it has none."""
    found = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d)", "", text))
    return float(found[-1]) if found else None
