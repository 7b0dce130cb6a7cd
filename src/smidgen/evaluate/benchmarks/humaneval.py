"""HumanEval: Python functions from their first lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Question
from smidgen.evaluate.benchmarks._program import ProgramBenchmark

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Humaneval(ProgramBenchmark):
    r"""HumanEval: the rest of a Python function from its first lines, tried by its tests.

    The model writes up to 1,024 tokens behind the first lines, until something begins at the left edge; the function
    and its tests are run in `smidgen.sandbox`. ``pass@1`` is the share of functions that pass. As the task humaneval
    (version 1.0) of lm-evaluation-harness 0.4.13 has it. Source: Chen et al. 2021, arXiv 2107.03374.
    """

    expects: ClassVar[str] = "prompt, test and entry_point"
    source: ClassVar[str] = "openai/openai_humaneval, split test"
    writes: ClassVar[int] = 1024
    stops: ClassVar[tuple[str, ...]] = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt, entry = record.text("prompt"), record.text("entry_point")
        if not entry.isidentifier():
            raise record.error(f"has the entry_point {entry!r}, which is no name of a function")
        tests = f"{record.text('test')}\ncheck({entry})"
        solution = record.text("canonical_solution") if record.has("canonical_solution") else ""
        return Question(prompts=(prompt,), references=(tests,), worked=prompt + solution)

    def program(self, question: Question, text: str) -> str:
        """Return the function with its tests."""
        return f"{question.prompts[0]}{text}\n{question.references[0]}"
