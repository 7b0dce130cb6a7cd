"""Any rows of a text and its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.evaluate.benchmarks._benchmark import Answer, ChoiceBenchmark, Question, multiple_choice, picked

if TYPE_CHECKING:
    from smidgen.data.records import Record

_MOST = 64


@dataclass(frozen=True)
class Classification(ChoiceBenchmark):
    r"""Your own texts, each with one of a few labels.

    Prompt ``Text: …\nLabel:``, then the label by its likelihood. Beside the share of right ones it tells macro F1, the
    mean over labels of 2·TP / (2·TP + FP + FN), and the confusion matrix.

    Attributes:
        labels: The labels; those of the file where none are given.

    Example:
        >>> matrix([0, 0, 1], [0, 1, 1], 2), round(macro_f1([[1, 1], [0, 1]]), 4)
        ([[1, 1], [0, 1]], 0.6667)
    """

    labels: tuple[str, ...] = ()

    expects: ClassVar[str] = "text and label"
    source: ClassVar[str] = "your own rows"
    normalised: ClassVar[bool] = False

    def prepared(self, records: Sequence[Record]) -> Classification:
        """Take the labels of the file."""
        found = {record.text("label") for record in records}
        labels = self.labels or tuple(sorted(found))
        if not 2 <= len(labels) <= _MOST:
            raise InvalidInput(f"{len(labels)} labels cannot be told apart; expected 2 to {_MOST}.")
        return replace(self, labels=labels)

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        prompt, label = f"Text: {record.text('text').strip()}\nLabel:", record.text("label")
        if label not in self.labels:
            raise record.error(f"has the label {label!r}, expected one of {', '.join(self.labels)}")
        return multiple_choice(prompt, self.labels, self.labels.index(label))

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return macro F1 and the confusion matrix, a row for each true label."""
        right = [question.right[0] for question in questions]
        counts = matrix(right, [picked(answer.likelihoods) for answer in answers], len(self.labels))
        return {"macro_f1": macro_f1(counts), "labels": list(self.labels), "confusion": counts}


def matrix(right: Sequence[int], given: Sequence[int], labels: int) -> list[list[int]]:
    """Count how often each label (row) was taken for each other (column)."""
    counts = [[0] * labels for _ in range(labels)]
    for true, taken in zip(right, given, strict=True):
        counts[true][taken] += 1
    return counts


def macro_f1(counts: Sequence[Sequence[int]]) -> float:
    """Return the mean F1 over the labels that occur or were given."""
    values = []
    for label, row in enumerate(counts):
        total = sum(row) + sum(each[label] for each in counts)
        if total:
            values.append(2 * row[label] / total)
    return sum(values) / len(values)
