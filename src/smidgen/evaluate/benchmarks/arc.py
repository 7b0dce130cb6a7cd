"""ARC: science questions of school tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.evaluate.benchmarks._benchmark import ChoiceBenchmark, Question, multiple_choice, right_choice

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Arc(ChoiceBenchmark):
    r"""ARC, easy or challenge: science questions of school tests, 3 to 5 choices.

    Prompt ``Question: …\nAnswer:``, then the choice's text by its likelihood, as the tasks arc_easy and arc_challenge
    (version 1.0) of lm-evaluation-harness 0.4.13 have it. Source: Clark et al. 2018, arXiv 1803.05457.

    Example:
        >>> from smidgen.data.records import Record
        >>> row = {"question": "Which is hot?", "choices": {"text": ["ice", "fire"], "label": ["A", "B"]}}
        >>> Arc().question(Record("line 1", row | {"answerkey": "B"})).worked
        'Question: Which is hot?\nAnswer: fire'
    """

    expects: ClassVar[str] = 'question, choices {"text": [...], "label": [...]} and answerKey; or query, choices, gold'
    source: ClassVar[str] = "allenai/ai2_arc, ARC-Easy or ARC-Challenge, split test"
    main: ClassVar[str] = "acc_norm"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        if record.has("query"):
            choices = record.texts("choices")
            return multiple_choice(f"{record.text('query')}\nAnswer:", choices, right_choice(record, choices, "gold"))
        asked: Any = record.value("question")
        found: Any = record.fields.get("choices")
        if isinstance(asked, Mapping):  # the layout of the authors' own files
            asked, found = asked.get("stem"), asked.get("choices")
        if isinstance(found, Mapping):
            pairs = list(zip(found.get("text") or (), found.get("label") or (), strict=False))
        else:
            pairs = [(each.get("text"), each.get("label")) for each in found or () if isinstance(each, Mapping)]
        labels = [str(label) for _, label in pairs]
        if not isinstance(asked, str) or not pairs or not all(isinstance(text, str) and text for text, _ in pairs):
            raise record.error("has no question with the texts and labels of its choices")
        key = record.text("answerkey")
        if key not in labels:
            raise record.error(f"has the answerKey {key!r}, expected one of {', '.join(labels)}")
        return multiple_choice(f"Question: {asked}\nAnswer:", [text for text, _ in pairs], labels.index(key))
