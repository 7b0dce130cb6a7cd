"""The prompts of a comparison, from a file or as they come with smidgen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smidgen.data.records import Record, read_records
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate.samples import PROMPTS

_PLAIN = (".txt", ".md")
_FORMAT = (
    "Give a .jsonl or .csv file whose rows have prompt, and where there is a right answer also answer (words that must "
    "come in it) or pattern (a regular expression); or a .txt file with one prompt per line."
)


@dataclass(frozen=True)
class Prompt:
    """One question that every model is asked.

    Attributes:
        text: What is asked.
        answers: Texts of which one must come in a right answer, whatever their capitals.
        pattern: A regular expression that a right answer must match; empty where there is none.

    Example:
        >>> Prompt("Capital of France?", ("paris",)).right("It is Paris."), Prompt("Why?").right("Because.")
        (True, None)
    """

    text: str
    answers: tuple[str, ...] = ()
    pattern: str = ""

    @property
    def is_scored(self) -> bool:
        """Whether it says what is right."""
        return bool(self.answers or self.pattern)

    def right(self, answer: str) -> bool | None:
        """Say whether an answer is right; None where nobody said what is."""
        if not self.is_scored:
            return None
        found = any(each.casefold() in answer.casefold() for each in self.answers)
        return found or bool(self.pattern and re.search(self.pattern, answer))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"answers": list(self.answers)}


def read_prompts(source: str | Path | Sequence[str | Prompt] | None) -> tuple[Prompt, ...]:
    """Read the prompts.

    Args:
        source: A file (.jsonl, .csv, .txt, .md), the prompts themselves, or None for those that come with smidgen.

    Raises:
        ReferenceNotFound: There is no such file; the message says which format it should have.
        InvalidInput: A row has no prompt, a pattern cannot be read, or there are none.

    Example:
        >>> [prompt.text for prompt in read_prompts(["One?", Prompt("Two?", ("2",))])]
        ['One?', 'Two?']
    """
    if source is None:
        source = PROMPTS
    if isinstance(source, str | Path):
        found = _from_file(Path(source).expanduser())
    else:
        found = [each if isinstance(each, Prompt) else Prompt(each.strip()) for each in source]
    if not found or not all(prompt.text for prompt in found):
        raise InvalidInput(f"There are no prompts in {source}.", remedy=_FORMAT)
    return tuple(found)


def _from_file(path: Path) -> list[Prompt]:
    if path.suffix.lower() in _PLAIN and path.is_file():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"{path} is not UTF-8: {error.reason}.", remedy="Convert it to UTF-8.") from None
        return [Prompt(line.strip()) for line in lines if line.strip()]
    try:
        records = read_records(path)
    except ReferenceNotFound as error:
        raise ReferenceNotFound(error.message, remedy=_FORMAT) from None
    return [_prompt(record) for record in records]


def _prompt(record: Record) -> Prompt:
    text = record.text("prompt", "question", "instruction", "query")
    answers: tuple[str, ...] = ()
    if record.has("answer", "answers", "reference"):
        listed = isinstance(record.value("answer", "answers", "reference"), list | tuple)
        names = ("answer", "answers", "reference")
        answers = record.texts(*names) if listed else (record.text(*names),)
    pattern = record.text("pattern") if record.has("pattern") else ""
    try:
        re.compile(pattern)
    except re.error as error:
        raise record.error(f"has a pattern that cannot be read, {pattern[:40]!r}: {error}") from None
    return Prompt(text, answers, pattern)
