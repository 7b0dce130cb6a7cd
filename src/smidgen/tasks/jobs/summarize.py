"""A long text in few words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.inference.engine import Message
from smidgen.tasks.passages import passages, within_words, word_count
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, finished, require_above, require_text, said

_TOKENS_PER_WORD = 2
_RESERVED = 96
_FEWEST_TOKENS = 64
_MOST_ROUNDS = 8


@dataclass(frozen=True)
class Summarize(Task):
    """Sum a text up in at most so many words; a text of any length, in parts whose summaries are summed up again.

    What is written ends with a whole sentence and never passes the number of words. Source of the parts: the map and
    reduce of Wu 2021, arXiv 2109.10862.

    Attributes:
        words: Most words of the summary.
        focus: What it is to be about; the whole text where None.

    Example:
        >>> Summarize(words=30).turns("A text.")[0].content
        'Summarize the text in at most 30 words, in whole sentences.'
    """

    words: int = 60
    focus: str | None = None

    row_fields: ClassVar[tuple[str, ...]] = ("focus",)

    def __post_init__(self) -> None:
        require_above("words", self.words, 3)

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked for a text that fits its context."""
        return self._turns(text, self.words)

    def run(self, text: str, model: LanguageModel) -> Working:
        """Sum a text up; parts first, where it is long, and their summaries then."""
        text = require_text(text)
        room = max(_FEWEST_TOKENS, model.context - _RESERVED - _TOKENS_PER_WORD * self.words)
        parts = passages(text, room, model)
        total = len(parts)
        rounds = 0
        while len(parts) > 1 and rounds < _MOST_ROUNDS:
            # Each part gets its share of what one prompt holds, so that the next round has fewer parts.
            share = (
                max(self.words, 12) if len(parts) * self.words * _TOKENS_PER_WORD <= room else max(12, self.words // 2)
            )
            share = min(share, max(12, room // (4 * _TOKENS_PER_WORD)))
            short = [finished_text(self._written(part, share, model)) for part in parts]
            parts, rounds = passages("\n".join(short), room, model), rounds + 1
        summary = yield from self._written(parts[0], self.words, model)
        facts: dict[str, Any] = {"words": word_count(summary), "parts": total, "rounds": rounds + 1}
        return {"text": summary, **facts}

    def _written(self, text: str, words: int, model: LanguageModel) -> Any:
        manner = Manner(max(_FEWEST_TOKENS, 3 * words), penalty=1.1)
        return within_words(model.write(self._turns(text, words), manner), words)

    def _turns(self, text: str, words: int) -> list[Message]:
        about = f" Say only what concerns {self.focus}." if self.focus else ""
        order = f"Summarize the text in at most {words} words, in whole sentences.{about}"
        return said(("system", order), ("user", text))


def finished_text(working: Any) -> str:
    """Take everything that is written and return it."""
    return str(finished(working))
