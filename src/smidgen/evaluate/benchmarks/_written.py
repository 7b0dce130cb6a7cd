"""What benchmarks share whose answers are written freely and compared with references of the user's own rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import MessageBenchmark, Question

if TYPE_CHECKING:
    from smidgen.data.records import Record

PROMPTS = ("prompt", "question", "instruction", "query")
"""Names of the field that holds what is asked."""

_ANSWERS = ("answer", "answers", "completion", "output", "reference", "references")


@dataclass(frozen=True)
class WrittenBenchmark(MessageBenchmark):
    """The model continues the prompt as it stands, up to 256 tokens or a blank line; one reference must be met.

    Attributes:
        chat: Whether the prompt is put to the model as a message instead.
    """

    expects: ClassVar[str] = "prompt (or question) and answer (or answers, completion): a text or a list of texts"
    source: ClassVar[str] = "your own rows"
    writes: ClassVar[int] = 256
    stops: ClassVar[tuple[str, ...]] = ("\n\n",)

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt = record.text(*PROMPTS).rstrip()
        listed = isinstance(record.value(*_ANSWERS), list | tuple)
        references = record.texts(*_ANSWERS) if listed else (record.text(*_ANSWERS),)
        return Question(prompts=(prompt,), references=references, worked=f"{prompt} {references[0]}", message=self.chat)


def by_place(questions: Sequence[Question]) -> list[list[str]]:
    """Return the first references of all questions, then the second and so on, empty where one has no more.

    Example:
        >>> by_place([Question((), references=("a", "b")), Question((), references=("c",))])
        [['a', 'c'], ['b', '']]
    """
    most = max(len(question.references) for question in questions)
    return [
        [question.references[place] if place < len(question.references) else "" for question in questions]
        for place in range(most)
    ]
