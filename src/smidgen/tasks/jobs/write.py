"""A text to a brief."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smidgen.inference.engine import Message
from smidgen.tasks.passages import within_words, word_count
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_above, require_text, said


@dataclass(frozen=True)
class Write(Task):
    """Write a text to a brief: a story, a post, an email, a product text.

    What is written ends with a whole sentence and never passes the number of words.

    Attributes:
        kind: What it is to be, as "story" or "email".
        words: Most words.
        tone: How it is to sound; the model chooses where None.
        temperature: 0 writes the same each time; higher is more varied.
        seed: Another seed gives another text.

    Example:
        >>> Write(kind="story", words=80).turns("A lighthouse that dreams.")[0].content
        'Write a story of at most 80 words.'
    """

    kind: str = "text"
    words: int = 150
    tone: str | None = None
    temperature: float = 0.8
    seed: int = 0

    row_fields: ClassVar[tuple[str, ...]] = ("kind", "tone")
    defines: ClassVar[tuple[str, ...]] = ("kind",)

    def __post_init__(self) -> None:
        require_above("words", self.words, 3)
        require_above("temperature", self.temperature, 0)

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked for a brief."""
        tone = f" Its tone is {self.tone}." if self.tone else ""
        return said(("system", f"Write a {self.kind} of at most {self.words} words.{tone}"), ("user", text))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Write a text to a brief."""
        manner = Manner(3 * self.words + 16, self.temperature, self.seed, penalty=1.1)
        written = yield from within_words(model.write(self.turns(require_text(text)), manner), self.words)
        return {"text": written, "words": word_count(written)}
