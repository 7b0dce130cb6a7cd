"""Programs written, explained and completed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.inference.engine import Message
from smidgen.tasks.passages import shortened
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_above, require_text, said

KINDS = ("generate", "explain", "complete")
_BLOCK = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_RESERVED = 64


@dataclass(frozen=True)
class Code(Task):
    r"""Write a program to a description, explain one, or go on with one.

    Attributes:
        do: "generate", "explain" or "complete".
        language: The programming language.
        tokens: Most tokens to write.
        run_it: Run what was written, in a sandbox without network or files; Python only.

    Example:
        >>> block_of("Here it is:\n```python\nprint(1)\n```\nDone.")
        'print(1)'
    """

    do: str = "generate"
    language: str = "Python"
    tokens: int = 512
    run_it: bool = False

    row_fields: ClassVar[tuple[str, ...]] = ("language",)
    local_fields: ClassVar[tuple[str, ...]] = ("run_it",)
    defines: ClassVar[tuple[str, ...]] = ("do", "language")

    def __post_init__(self) -> None:
        if self.do not in KINDS:
            raise ReferenceNotFound.among("way of working with code", self.do, KINDS)
        require_above("tokens", self.tokens, 1)
        if self.run_it and self.do == "explain":
            raise InvalidInput("An explanation cannot be run.", remedy="Take --do generate or complete.")
        if self.run_it and self.language.lower() != "python":
            raise Unsupported(f"Only Python is run, not {self.language}.", remedy="Leave out --run-it.")

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked."""
        if self.do == "complete":
            order = f"Complete this {self.language} code. Answer with one code block that holds all of it."
        elif self.do == "explain":
            order = f"Explain what this {self.language} code does, in a few plain sentences."
        else:
            order = f"Write {self.language} code for the task. Answer with one code block."
        return said(("system", order), ("user", text))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Write, explain or complete code."""
        require_text(text)
        room = model.context - _RESERVED - min(self.tokens, model.context // 2)
        if shortened(text, room, model) != text:
            raise InvalidInput(
                f"The text does not fit a context of {model.context:,} tokens.", remedy="Give a part of it at a time."
            )
        written = ""
        for piece in self._pieces(text, model):
            written += piece
            yield piece
        code = None if self.do == "explain" else text.rstrip() + written if self.do == "complete" else block_of(written)
        result: dict[str, Any] = {"text": written.strip("\n"), "code": code}
        return result | ({"outcome": _ran(code)} if self.run_it and code is not None else {})

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return how the program ended, where it was run."""
        outcome = result.get("outcome")
        if outcome is None:
            return ""
        return "It ran to its end." if outcome["passed"] else f"It failed: {outcome['reason']}"

    def _pieces(self, text: str, model: LanguageModel) -> Iterator[str]:
        manner = Manner(self.tokens)
        if self.do != "complete":
            yield from model.write(self.turns(text), manner)
            return
        # The answer begins with the code, so that the model can only go on with it. What is left at the margin begins
        # something new: the part that was to be completed has ended.
        begun, written = f"```{self.language.lower()}\n{text.rstrip()}", ""
        for piece in model.write(self.turns(text), Manner(self.tokens, stops=("```",), begun=begun)):
            place = _end_of_part(written + piece, text)
            if place is not None:
                yield (written + piece)[len(written) : place]
                return
            written += piece
            yield piece


def block_of(text: str) -> str:
    """Return the first code block of an answer; all of it where it has none."""
    found = _BLOCK.search(text)
    return found[1] if found else text.strip("\n")


def _end_of_part(written: str, before: str) -> int | None:
    """Return where a completion of indented code leaves the indented part; None where it does not."""
    last = next((line for line in reversed(before.splitlines()) if line.strip()), "")
    if not (last.startswith((" ", "\t")) or last.rstrip().endswith(":")):
        return None
    found = re.search(r"\n(?=[^\s#)\]}])", written)
    return found.start() if found else None


def _ran(program: str) -> dict[str, Any]:
    """Run a program where nothing can be harmed."""
    from smidgen import sandbox

    outcome = sandbox.run(program)
    return {"passed": outcome.passed, "reason": outcome.reason}
