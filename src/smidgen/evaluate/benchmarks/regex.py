"""Any rows of a prompt and a pattern that the answer must match."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.benchmarks._written import WrittenBenchmark

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Regex(WrittenBenchmark):
    """Your own questions, in whose answer a regular expression (Python's) must be found."""

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        question = super().question(record)
        for pattern in question.references:
            try:
                re.compile(pattern)
            except re.error as error:
                raise record.error(f"has a pattern that cannot be read, {pattern[:40]!r}: {error}") from None
        return question

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether a pattern is found."""
        return {"acc": float(any(re.search(pattern, answer.text) for pattern in question.references))}
