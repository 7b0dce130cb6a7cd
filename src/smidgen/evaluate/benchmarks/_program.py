"""What benchmarks share whose answers are programs that are run."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

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
        return {"pass@1": float(_outcome(self.program(question, answer.text)).passed)}

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return how often programs failed for which reason, the commonest first."""
        programs = [self.program(*pair) for pair in zip(questions, (each.text for each in answers), strict=True)]
        outcomes = map(_outcome, programs)
        reasons = Counter(outcome.reason.partition(":")[0] for outcome in outcomes if not outcome.passed)
        return {"failures": dict(reasons.most_common())}


@lru_cache(maxsize=2048)
def _outcome(program: str) -> sandbox.Outcome:
    """Run a program, once only for its score and its reason."""
    return sandbox.run(program)
