"""MMLU: questions of 57 subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from smidgen.evaluate.benchmarks._benchmark import LETTERS, ChoiceBenchmark, Question, right_choice

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Mmlu(ChoiceBenchmark):
    """MMLU: questions of 57 subjects, 4 choices each.

    The subject is introduced, worked examples of it follow (the first five of its split ``dev``), then the question
    with its choices and ``Answer:``, and the letter by its likelihood, as the tasks mmlu (version 1.0) of
    lm-evaluation-harness 0.4.13 have it. The score is the mean over all questions. Source: Hendrycks et al. 2021,
    arXiv 2009.03300.
    """

    expects: ClassVar[str] = "subject, question, choices (or a, b, c, d) and answer (0 to 3 or A to D)"
    source: ClassVar[str] = "cais/mmlu, split test; worked examples from split dev"
    shots: ClassVar[int] = 5
    draws: ClassVar[Literal["first", "random"]] = "first"
    normalised: ClassVar[bool] = False

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        asked, subject = record.text("question").strip(), record.text("subject")
        choices = record.texts("choices") if record.has("choices") else [record.text(each) for each in "abcd"]
        if len(choices) != 4:
            raise record.error(f"has {len(choices)} choices, expected 4")
        letters = LETTERS[:4]
        right = right_choice(record, letters, "answer")
        lines = "".join(f"{letter}. {choice}\n" for letter, choice in zip(letters, choices, strict=True))
        prompt = f"{asked}\n{lines}Answer:"
        about = subject.replace("_", " ")
        return Question(
            prompts=(prompt,) * 4,
            endings=tuple(f" {letter}" for letter in letters),
            choices=tuple(letters),
            right=(right,),
            worked=f"{prompt} {letters[right]}",
            introduction=f"The following are multiple choice questions (with answers) about {about}.\n\n",
            group=subject,
        )
