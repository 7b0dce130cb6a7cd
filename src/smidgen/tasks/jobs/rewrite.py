"""A text said in another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.paragraphs import ParagraphTask
from smidgen.tasks.task import said


@dataclass(frozen=True)
class Rewrite(ParagraphTask):
    """Say a text in another way, paragraph by paragraph: plainer, shorter, friendlier, more formal.

    Attributes:
        style: How it is to be, in your own words.

    Example:
        >>> Rewrite(style="formal").turns("Hey!")[0].content
        'Rewrite the text so that it is formal. Keep its meaning. Answer with the new text only.'
    """

    style: str = "plain and clear"

    defines: ClassVar[tuple[str, ...]] = ("style",)
    row_fields: ClassVar[tuple[str, ...]] = ("style",)

    def __post_init__(self) -> None:
        if not self.style.strip():
            raise InvalidInput("The option style says nothing.", remedy="As in: --style 'short and friendly'.")

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked for a part of a text."""
        order = f"Rewrite the text so that it is {self.style}. Keep its meaning. Answer with the new text only."
        return said(("system", order), ("user", text))
