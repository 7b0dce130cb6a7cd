"""A writer whose answers are kept in a file, so that work that was stopped asks for none of them twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from smidgen.data.writing import Writer
from smidgen.models.files import make_folder, writing_error

Answer = TypeVar("Answer", str, float)


class Notebook:
    """Answers in a file, each under the question's name.

    Every answer is one line, on the disk before it counts as known. A line that a kill cut short is taken away.

    Args:
        path: The file.

    Attributes:
        path: The file.
        known: The answers by their question.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> Notebook(path).keep("1 + 1", 2)
        >>> Notebook(path).known
        {'1 + 1': 2}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path.parent)
        self.known: dict[str, Any] = dict(_read(path)) if path.is_file() else {}

    def keep(self, key: str, answer: Any) -> None:
        """Add an answer, plain data for JSON."""
        self.keep_all({key: answer})

    def keep_all(self, answers: Mapping[str, Any]) -> None:
        """Add several answers in one go."""
        try:
            with open(self.path, "a", encoding="ascii") as file:
                file.write("".join(json.dumps(pair) + "\n" for pair in answers.items()))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise writing_error(self.path, error) from error
        self.known |= answers


class RememberingWriter:
    """Answers what was asked before from a file, and asks the writer for the rest.

    Every answer is one line, on the disk before it is used. A line that a kill cut short is taken away.

    Args:
        writer: Who writes and judges.
        path: The file; it belongs to one writer with one set of options.

    Example:
        >>> import tempfile
        >>> class Clock:
        ...     def write(self, prompt, seed):
        ...         print("asked")
        ...         return "noon"
        >>> path = Path(tempfile.mkdtemp()) / "answers.jsonl"
        >>> RememberingWriter(Clock(), path).write("What time is it?", 0)
        asked
        'noon'
        >>> RememberingWriter(Clock(), path).write("What time is it?", 0)
        'noon'
    """

    def __init__(self, writer: Writer, path: Path) -> None:
        self.writer, self._notebook = writer, Notebook(path)

    def write(self, prompt: str, seed: int) -> str:
        """Continue a prompt."""
        return self._once(["write", prompt, seed], lambda: self.writer.write(prompt, seed))

    def score(self, prompt: str, text: str) -> float:
        """Return the mean log-probability per token of a text after a prompt, in nats."""
        return self._once(["score", prompt, text], lambda: self.writer.score(prompt, text))

    def _once(self, question: list[str | int], ask: Callable[[], Answer]) -> Answer:
        key = json.dumps(question)
        if key not in self._notebook.known:
            self._notebook.keep(key, ask())
        answer: Answer = self._notebook.known[key]
        return answer


def _read(path: Path) -> list[tuple[str, Any]]:
    """Read the whole lines; what comes after the last of them is cut off."""
    content = path.read_bytes()
    found, whole = [], 0
    for line in content.splitlines(keepends=True):
        try:
            key, answer = json.loads(line)
        except (ValueError, TypeError):
            break
        if not line.endswith(b"\n"):
            break
        found.append((str(key), answer))
        whole += len(line)
    if whole < len(content):
        os.truncate(path, whole)
    return found
