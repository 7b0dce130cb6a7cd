"""HellaSwag: how everyday scenes go on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.benchmarks._benchmark import ChoiceBenchmark, Question, multiple_choice

if TYPE_CHECKING:
    from smidgen.data.records import Record


@dataclass(frozen=True)
class Hellaswag(ChoiceBenchmark):
    """HellaSwag: which of 4 endings goes on with a scene.

    Prompt ``activity: context`` with marks in brackets taken out, then the whole ending by its likelihood, as the task
    hellaswag (version 1.0) of lm-evaluation-harness 0.4.13 has it. Source: Zellers et al. 2019, arXiv 1905.07830.

    Example:
        >>> cleaned("Knock [substeps] twice [title] Wait")
        'Knock twice. Wait'
    """

    expects: ClassVar[str] = "activity_label, ctx_a, ctx_b, endings and label; or context, endings and answer"
    source: ClassVar[str] = "Rowan/hellaswag, split validation"
    main: ClassVar[str] = "acc_norm"

    def question(self, record: Record) -> Question:
        """Turn a row into a question."""
        if record.has("context"):
            prompt = record.text("context")
        else:
            # The second half of the scene may be empty, but it must be there.
            scene = f"{record.text('ctx_a')} {str(record.value('ctx_b')).capitalize()}"
            prompt = cleaned(f"{record.text('activity_label')}: {scene}")
        endings = [cleaned(ending) for ending in record.texts("endings")]
        if not all(endings):
            raise record.error("has an ending without words")
        return multiple_choice(prompt, endings, record.number("label", "answer", count=len(endings)))


def cleaned(text: str) -> str:
    """Take the marks in brackets out of a text; a title becomes a sentence of its own."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")
