"""A text in another language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.paragraphs import ParagraphTask
from smidgen.tasks.task import said


@dataclass(frozen=True)
class Translate(ParagraphTask):
    """Translate a text, paragraph by paragraph, long ones in parts that fit the context.

    Attributes:
        to: The language to translate into.
        source: The language of the text; the model is to see it where None.

    Example:
        >>> Translate(to="French").turns("Good day.")[0].content
        'Translate the text into French. Answer with the translation only.'
    """

    to: str = "English"
    source: str | None = None

    defines: ClassVar[tuple[str, ...]] = ("to", "source")
    row_fields: ClassVar[tuple[str, ...]] = ("to", "source")

    def __post_init__(self) -> None:
        if not self.to.strip():
            raise InvalidInput("No language to translate into is named.", remedy="As in: --to French.")

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked for a part of a text."""
        origin = f" from {self.source}" if self.source else ""
        order = f"Translate the text{origin} into {self.to}. Answer with the translation only."
        return said(("system", order), ("user", text))
