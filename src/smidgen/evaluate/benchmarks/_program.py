"""What benchmarks share whose answers are programs that are run."""

from __future__ import annotations

import abc
from typing import ClassVar

from smidgen import sandbox
from smidgen.evaluate.benchmarks._benchmark import Answer, Benchmark, Question


class ProgramBenchmark(Benchmark):
    """The model writes Python; the answer is right where the program runs to its end in the sandbox."""

    runs_programs: ClassVar[bool] = True
    main: ClassVar[str] = "pass@1"

    @abc.abstractmethod
    def program(self, question: Question, text: str) -> str:
        """Return what is run of an answer."""

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Run the program with its tests."""
        return {"pass@1": float(sandbox.run(self.program(question, answer.text)).passed)}
