"""LAMBADA: the last word of a passage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Answer, Benchmark, Question

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Lambada(Benchmark):
    """LAMBADA: the last word of a passage, which only the whole passage tells.

    ``acc`` is 1 where the model would have written the word itself; ``perplexity`` is e to the mean of -ln p of the
    word. As the tasks lambada_openai and lambada_standard (version 1.0) of lm-evaluation-harness 0.4.13 have it.
    Source: Paperno et al. 2016, arXiv 1606.06031.
    """

    expects: ClassVar[str] = "text; or context and continuation"
    source: ClassVar[str] = "EleutherAI/lambada_openai, split test"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        if record.has("text"):
            context, _, word = record.text("text").rpartition(" ")
        else:
            context, word = record.text("context"), record.text("continuation").strip()
        if not context.strip() or not word.strip():
            raise record.error("has no words before the last one")
        ending = f" {word}"
        return Question(prompts=(context,), endings=(ending,), choices=(word,), right=(0,), worked=context + ending)

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether the model would have written the word, and how likely it was."""
        return {"acc": float(answer.greedy[0]), "log_likelihood": answer.likelihoods[0]}

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the perplexity of the words."""
        return {"perplexity": math.exp(-math.fsum(answer.likelihoods[0] for answer in answers) / len(answers))}
