"""PIQA: how to do everyday things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import ChoiceBenchmark, Question, multiple_choice

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Piqa(ChoiceBenchmark):
    r"""PIQA: which of 2 ways leads to an everyday goal.

    Prompt ``Question: goal\nAnswer:``, then the way's text by its likelihood, as the task piqa (version 1.0) of
    lm-evaluation-harness 0.4.13 has it. Source: Bisk et al. 2020, arXiv 1911.11641.
    """

    expects: ClassVar[str] = "goal, sol1, sol2 and label (0 or 1)"
    source: ClassVar[str] = "baber/piqa, split validation"
    main: ClassVar[str] = "acc_norm"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt = f"Question: {record.text('goal')}\nAnswer:"
        ways = [record.text("sol1"), record.text("sol2")]
        return multiple_choice(prompt, ways, record.number("label", count=2))
