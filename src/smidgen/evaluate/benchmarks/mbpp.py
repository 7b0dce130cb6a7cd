"""MBPP: short Python programs from a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from smidgen.evaluate.benchmarks._benchmark import Question
from smidgen.evaluate.benchmarks._program import ProgramBenchmark

if TYPE_CHECKING:
    from smidgen.data.records import Record

_TEST = range(11, 511)
_EXAMPLES = (2, 3, 4)


@dataclass(frozen=True)
class Mbpp(ProgramBenchmark):
    """MBPP: short Python programs from a sentence and three tests.

    Three worked examples, then the task; the model writes up to 256 tokens, until it writes ``[DONE]``. The program and
    its tests are run in `smidgen.sandbox`. ``pass@1`` is the share of programs that pass. Of a file with all rows those
    of the split test are asked (task_id 11 to 510), and of the worked examples those with the task_id 2, 3 and 4 are
    taken, as the task mbpp (version 1.0) of lm-evaluation-harness 0.4.13 has it. Source: Austin et al. 2021, arXiv
    2108.07732.
    """

    expects: ClassVar[str] = "text (or prompt), code and test_list, a list of three tests"
    source: ClassVar[str] = "google-research-datasets/mbpp, full, split test; worked examples from split prompt"
    shots: ClassVar[int] = 3
    draws: ClassVar[Literal["first", "random"]] = "first"
    writes: ClassVar[int] = 256
    stops: ClassVar[tuple[str, ...]] = ("[DONE]",)

    def asked(self, records: Sequence[Record]) -> Sequence[Record]:
        """Leave out the rows of other splits."""
        return [record for record in records if not record.has("task_id") or _number(record) in _TEST]

    def shown(self, records: Sequence[Record]) -> Sequence[Record]:
        """Take the published examples where the file has them."""
        numbered = {_number(record): record for record in records if record.has("task_id")}
        return [numbered[each] for each in _EXAMPLES] if set(_EXAMPLES) <= set(numbered) else records

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        tests = record.texts("test_list")
        shown = "\n".join(tests[:3])
        asked = f"{record.text('text', 'prompt')} Your code should pass these tests:\n\n{shown}"
        prompt = f"You are an expert Python programmer, and here is your task: {asked}\n[BEGIN]\n"
        return Question(prompts=(prompt,), references=(shown,), worked=f"{prompt}{record.text('code')}\n[DONE]")

    def program(self, question: Question, text: str) -> str:
        """Return the program with its tests."""
        return f"{text}\n{question.references[0]}"


def _number(record: Record) -> int:
    return record.number("task_id", count=10**9)
