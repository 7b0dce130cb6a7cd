"""OCRBench: questions about the words in images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.evaluate.benchmarks._benchmark import Answer, Benchmark, Question

if TYPE_CHECKING:
    from smidgen.data.records import Record

_FORMULAS = "Handwritten Mathematical Expression Recognition"


@dataclass(frozen=True)
class Ocrbench(Benchmark):
    r"""OCRBench: what is written in an image, and questions about it, of ten types.

    The question is put as a message with its image; the model writes up to 100 tokens. ``hit`` is 1 where one of the
    right answers stands in what it wrote, both in small letters with line breaks as spaces; of handwritten formulas
    capital letters count and spaces do not, as in the authors' own program. ``exact`` is 1 where it wrote nothing else.
    Both are told for each type, and ``score`` counts the hits: of the 1,000 published questions it is the published
    score. Source: Liu et al. 2023, arXiv 2305.07895.

    Example:
        >>> question = Question(("What is written?",), references=("CENTRE",), group="Regular Text Recognition")
        >>> Ocrbench().score(question, Answer(text="It says\nCentre."))
        {'hit': 1.0, 'exact': 0.0}
    """

    expects: ClassVar[str] = "question, answers (a text or a list of texts), type and image_path"
    source: ClassVar[str] = "OCRBench.json and its images, github.com/Yuliang-Liu/MultimodalOCR"
    writes: ClassVar[int] = 100
    shows_images: ClassVar[bool] = True
    main: ClassVar[str] = "hit"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        asked, value = record.text("question"), record.value("answers", "answer")
        listed = isinstance(value, list | tuple)
        right = record.texts("answers", "answer") if listed else (record.text("answers", "answer"),)
        return Question(
            prompts=(asked,),
            references=right,
            worked=f"{asked} {right[0]}",
            group=record.text("type"),
            message=True,
            images=(Path(record.text("image_path")),),
        )

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether a right answer stands in what was written, and whether nothing else does."""
        said = _plain(answer.text, question.group)
        wanted = [_plain(each, question.group) for each in question.references]
        return {"hit": float(any(each in said for each in wanted)), "exact": float(said in wanted)}

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the count of hits, and what was reached of each type."""
        types: dict[str, dict[str, int]] = {}
        for question, answer in zip(questions, answers, strict=True):
            found = types.setdefault(question.group, {"items": 0, "hit": 0, "exact": 0})
            found["items"] += 1
            for name, value in self.score(question, answer).items():
                found[name] += int(value)
        return {"score": sum(each["hit"] for each in types.values()), "types": types}


def _plain(text: str, kind: str) -> str:
    r"""Return a text as it is compared.

    Example:
        >>> _plain(" A\nb ", "Regular Text Recognition"), _plain("x ^ { A }", _FORMULAS)
        ('a b', 'x^{A}')
    """
    if kind == _FORMULAS:
        return text.strip().replace("\n", "").replace(" ", "")
    return text.lower().strip().replace("\n", " ")
