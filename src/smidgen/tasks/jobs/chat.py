"""An assistant that remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from smidgen.errors import DamagedFile, InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.jobs.summarize import finished_text
from smidgen.tasks.passages import shortened, within_words
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_above, require_text, said

_PER_TURN = 12  # tokens that a template puts around a turn
_RECENT = 2  # turns that are never summarised: the last exchange
_ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Chat(Task):
    """Hold a conversation that may be longer than the context: what no longer fits is remembered as a summary.

    Before an answer the oldest turns go into the summary until summary, turns and answer fit the context; the last
    exchange always stays word for word.

    Attributes:
        system: What the assistant is to be.
        memory: File that keeps the conversation from one call to the next.
        tokens: Most tokens of an answer.
        remember: Most words of the summary.
        temperature: 0 answers the same each time.
        seed: Another seed gives other answers.
        remembered: What an earlier result has under "memory", instead of a file.

    Example:
        >>> [turn.role for turn in Chat().turns("Hi")]
        ['system', 'user']
    """

    system: str = "You are a helpful assistant."
    memory: str | None = None
    tokens: int = 256
    remember: int = 120
    temperature: float = 0.3
    seed: int = 0
    remembered: Mapping[str, Any] | None = None

    converses: ClassVar[bool] = True
    taught_by: ClassVar[tuple[str, ...]] = ()
    local_fields: ClassVar[tuple[str, ...]] = ("memory",)
    row_fields: ClassVar[tuple[str, ...]] = ("remembered",)

    def __post_init__(self) -> None:
        require_above("tokens", self.tokens, 1)
        require_above("remember", self.remember, 10)
        require_above("temperature", self.temperature, 0)

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked in a conversation's first turn."""
        return said(("system", self.system), ("user", text))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Answer, and return the answer with what is to be remembered."""
        text = require_text(text)
        summary, turns = self._recalled()
        room = model.context - min(self.tokens, model.context // 3) - 2 * _PER_TURN - model.count(self.system)
        text = shortened(text, max(1, room // 2), model)
        summary, turns = self._fitted(summary, [*turns, Message("user", text)], room, model)
        known = f"{self.system}\nEarlier in this conversation: {summary}" if summary else self.system
        written = ""
        for piece in model.write(
            [Message("system", known), *turns], Manner(self.tokens, self.temperature, self.seed, 1.1)
        ):
            piece = piece if written else piece.lstrip()
            written += piece
            if piece:
                yield piece
        memory = {"summary": summary, "turns": _as_plain([*turns, Message("assistant", written)])}
        self._keep(memory)
        return {"text": written, "memory": memory}

    def _fitted(
        self, summary: str, turns: Sequence[Message], room: int, model: LanguageModel
    ) -> tuple[str, list[Message]]:
        """Move the oldest turns into the summary until all fits; what is too long even then is cut."""
        kept, leaving = list(turns), list[Message]()

        def size() -> int:
            return sum(model.count(turn.content) + _PER_TURN for turn in kept) + 2 * self.remember

        while len(kept) > _RECENT + 1 and size() > room:
            leaving += [kept.pop(0) for _ in range(2 if len(kept) > _RECENT + 2 else 1)]
        if leaving:
            summary = self._summarised(summary, leaving, room, model)
        if size() > room:
            each = max(1, (room - 2 * self.remember) // len(kept) - _PER_TURN)
            kept = [Message(turn.role, shortened(turn.content, each, model)) for turn in kept]
        return summary, kept

    def _summarised(self, summary: str, leaving: Sequence[Message], room: int, model: LanguageModel) -> str:
        told = "\n".join([*([summary] if summary else []), *(f"{turn.role}: {turn.content}" for turn in leaving)])
        order = f"Note what is worth remembering of this conversation, names and facts first, in {self.remember} words."
        asked = said(("system", order), ("user", shortened(told, max(1, room // 2), model)))
        return finished_text(within_words(model.write(asked, Manner(2 * self.remember, penalty=1.1)), self.remember))

    def _recalled(self) -> tuple[str, list[Message]]:
        """Read what is remembered."""
        kept: Any = self.remembered
        place = "The memory"
        if kept is None and self.memory is not None:
            path = Path(self.memory).expanduser()
            place = str(path)
            if path.is_file():
                try:
                    kept = json.loads(path.read_text(encoding="utf-8"))
                except (ValueError, OSError) as error:
                    raise DamagedFile(
                        f"{place} is no memory of a chat: {error}.", remedy="Name another file."
                    ) from None
        if kept is None:
            return "", []
        try:
            turns = [Message(str(turn["role"]), str(turn["content"])) for turn in kept["turns"]]
            if not all(turn.role in _ROLES for turn in turns):
                raise ValueError("a role is neither user nor assistant")
            return str(kept["summary"]), turns
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{place} is no memory of a chat: {error}.", remedy="Give what an answer returned."
            ) from None

    def _keep(self, memory: Mapping[str, Any]) -> None:
        if self.memory is not None:
            from smidgen.models.files import atomic_write

            atomic_write(Path(self.memory).expanduser(), json.dumps(memory, indent=1, ensure_ascii=False) + "\n")


def _as_plain(turns: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]
