"""A text with its mistakes mended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.marked_diff import changes, likeness, marked
from smidgen.tasks.passages import shortened, spans
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_text, said

_RESERVED = 160
_EXAMPLES = {
    "english": (
        ("She go home and eat dinner.", "She goes home and eats dinner."),
        ("I has two dog.", "I have two dogs."),
        ("They were happy.", "They were happy."),
    )
}
"""Worked examples by language: a small model sees by them that nothing is to be written but the sentence."""

_LEAD = re.compile(r"^(?:the |here is the )?correct(?:ed|ion)?\b[^:]{0,40}:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Grammar(Task):
    """Mend grammar and spelling, sentence by sentence, and mark what was changed.

    A correction that is hardly like the sentence is no correction but a new text: the sentence then stays as it was,
    and is counted under ``kept``.

    Attributes:
        language: The language of the text.
        likeness: Least likeness of a sentence and its correction, 0 to 1 (twice the common characters over all).

    Example:
        >>> Grammar().turns("He go home.")[0].content
        'Correct the grammar and spelling of the English sentence. Answer with the corrected sentence only.'
    """

    language: str = "English"
    likeness: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.likeness <= 1:
            raise InvalidInput(f"The option likeness is {self.likeness}, expected 0 to 1.")

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked for a sentence."""
        order = (
            f"Correct the grammar and spelling of the {self.language} sentence. "
            "Answer with the corrected sentence only."
        )
        examples = [
            turn
            for wrong, right in _EXAMPLES.get(self.language.lower(), ())
            for turn in (("user", wrong), ("assistant", right))
        ]
        return said(("system", order), *examples, ("user", text))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Correct a text; each sentence is given as soon as it is whole."""
        text, written, kept, place = require_text(text), "", 0, 0
        for left, right in spans(text):
            between, sentence = text[place:left], text[left:right]
            corrected = self._corrected(sentence, model)
            kept += corrected is None
            piece = between + (sentence if corrected is None else corrected)
            written, place = written + piece, right
            yield piece
        return {"text": written, "marked": marked(text, written), "changes": changes(text, written), "kept": kept}

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return the marked text."""
        return str(result["marked"]) if result["changes"] else "Nothing was changed."

    def _corrected(self, sentence: str, model: LanguageModel) -> str | None:
        """Return a sentence's correction; None where what was written is none."""
        room = (model.context - _RESERVED) // 2
        if shortened(sentence, room, model) != sentence:
            return None
        answer = "".join(model.write(self.turns(sentence), Manner(min(room, 2 * model.count(sentence) + 16))))
        line = next((line.strip() for line in answer.splitlines() if line.strip()), "")
        line = line if ":" in sentence else _LEAD.sub("", line)
        if len(line) > 2 and line[0] in "\"'“" and line[-1] in "\"'”" and sentence[0] not in "\"'“":
            line = line[1:-1]
        return line if likeness(sentence, line) >= self.likeness else None
