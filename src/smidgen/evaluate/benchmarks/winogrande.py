"""WinoGrande: whom or what a sentence speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import ChoiceBenchmark, Question

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Winogrande(ChoiceBenchmark):
    """WinoGrande: which of 2 names fills the gap of a sentence.

    The sentence up to the gap, filled with either name, is the prompt; what comes after the gap is scored, as the task
    winogrande (version 1.0) of lm-evaluation-harness 0.4.13 has it. Source: Sakaguchi et al. 2019, arXiv 1907.10641.
    """

    expects: ClassVar[str] = "sentence with a gap _, option1, option2 and answer (1 or 2)"
    source: ClassVar[str] = "allenai/winogrande, winogrande_xl, split validation"
    normalised: ClassVar[bool] = False

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        before, gap, after = record.text("sentence").partition("_")
        options = (record.text("option1"), record.text("option2"))
        right = record.number("answer", count=2, first=1)
        after = after.strip()
        if not gap or not after:
            raise record.error("has no sentence with a gap _ and words after it")
        prompts = tuple(before + option for option in options)
        return Question(
            prompts=prompts,
            endings=(f" {after}",) * 2,
            choices=options,
            right=(right,),
            worked=f"{prompts[right]} {after}",
        )
