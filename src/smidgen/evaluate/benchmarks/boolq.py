"""BoolQ: questions of yes or no about a passage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import ChoiceBenchmark, Question, multiple_choice

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Boolq(ChoiceBenchmark):
    r"""BoolQ: questions of yes or no about a passage.

    Prompt ``passage\nQuestion: …?\nAnswer:``, then no or yes by its likelihood, as the task boolq (version 2.0) of
    lm-evaluation-harness 0.4.13 has it. Source: Clark et al. 2019, arXiv 1905.10044.
    """

    expects: ClassVar[str] = "passage, question (without its mark) and label or answer (0, 1, true, false)"
    source: ClassVar[str] = "aps/super_glue, boolq, split validation"
    normalised: ClassVar[bool] = False

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        if record.has("query"):
            asked = record.text("query").removeprefix("Passage: ")
        else:
            asked = f"{record.text('passage')}\nQuestion: {record.text('question')}?"
        return multiple_choice(f"{asked}\nAnswer:", ("no", "yes"), _label(record))


def _label(record: Record) -> int:
    names = ("label", "answer", "gold")
    words = {"false": 0, "true": 1, "no": 0, "yes": 1}
    word = str(record.value(*names)).strip().lower()
    return words[word] if word in words else record.number(*names, count=2)
