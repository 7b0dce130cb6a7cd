"""Tasks that turn each paragraph of a text into another one, so that texts of any length keep their form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from smidgen.tasks.passages import passages
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_text

_BREAK = re.compile(r"(\n\s*\n|\n)")
_SHARE = 3
"""The context holds the instruction, a part of the text and its new form; a part has this share of it."""

_RESERVED = 64


@dataclass(frozen=True)
class ParagraphTask(Task):
    """A task that works paragraph by paragraph."""

    def run(self, text: str, model: LanguageModel) -> Working:
        """Write each paragraph anew; what stands between paragraphs stays."""
        require_text(text)
        written: list[str] = []
        for piece in _BREAK.split(text.strip()):
            for part in self._parts(piece, model):
                written.append(part)
                yield part
        return {"text": "".join(written)}

    def _parts(self, piece: str, model: LanguageModel) -> Iterator[str]:
        if not piece.strip():
            yield piece
            return
        room = max(16, (model.context - _RESERVED) // _SHARE)
        for number, part in enumerate(passages(piece, room, model)):
            yield from [" "] if number else []
            yield from stripped(self.write(part, model, room))

    def write(self, part: str, model: LanguageModel, room: int) -> Iterator[str]:
        """Write one part anew, in no more tokens than there is room for."""
        return model.write(self.turns(part), Manner(min(room, 2 * model.count(part) + 32)))


def stripped(pieces: Iterator[str]) -> Iterator[str]:
    """Let through what is written without the white space around it.

    Example:
        >>> list(stripped(iter([" ", " One", " two ", " "])))
        ['One', ' two']
    """
    held, begun = "", False
    for piece in pieces:
        whole = held + piece
        whole = whole if begun else whole.lstrip()
        bare = whole.rstrip()
        held = whole[len(bare) :]
        if bare:
            begun = True
            yield bare
