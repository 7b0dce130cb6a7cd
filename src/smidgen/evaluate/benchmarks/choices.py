"""Any rows of a prompt and choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import ChoiceBenchmark, Question, multiple_choice, right_choice

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Choices(ChoiceBenchmark):
    """Your own questions: a prompt, choices, and which is right.

    The prompt stands as it is; each choice is scored behind it and a space.
    """

    expects: ClassVar[str] = (
        "prompt (or question, query), choices, and answer (or gold, label): a choice, letter or number"
    )
    source: ClassVar[str] = "your own rows"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt, choices = record.text("prompt", "question", "query").rstrip(), record.texts("choices")
        return multiple_choice(prompt, choices, right_choice(record, choices, "answer", "gold", "label"))
