"""How a model wants conversations laid out: its own template, read from its files, and the marks around texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.inference.engine import Message

if TYPE_CHECKING:
    from smidgen.inference.go_template import GoTemplate

_NO_THINKING = {"enable_thinking": False, "thinking": False}


@dataclass(frozen=True)
class Layout:
    """A model's layout of conversations.

    Attributes:
        jinja: The template that its files bring; empty where there is none.
        go: The template that its Modelfile has; it goes before the other.
        begins: The text of the token that stands before every text.
        ends: The text of the token that ends an answer.
    """

    jinja: str = ""
    go: GoTemplate | None = None
    begins: str = ""
    ends: str = ""

    def text(self, turns: Sequence[Message]) -> str:
        r"""Return a conversation as the text that the model continues; without a template its turns, in turn.

        Example:
            >>> Layout().text([Message("user", "Hi")])
            'Hi\n'
        """
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        if self.go is not None:
            from smidgen.inference.layout import lay_out

            return lay_out(self.go, messages, think=False)
        if self.jinja:
            from smidgen.inference import chat_template

            marks = {"bos_token": self.begins, "eos_token": self.ends}
            return chat_template.render(self.jinja, messages, marks=marks, variables=_NO_THINKING)
        return "\n\n".join(turn.content for turn in turns) + "\n"


def layout_of(path: Path, facts: Mapping[str, Any]) -> Layout:
    """Read a model's layout.

    Args:
        path: A GGUF file or a folder.
        facts: What the store knows of the model.

    Raises:
        DamagedFile: The file cannot be read.
        InvalidInput: The Modelfile's template cannot be understood.
    """
    from smidgen.inference import go_template

    own = facts.get("template")
    go = go_template.parse(str(own)) if own else None
    if path.is_dir():
        return _of_folder(path, go)
    from smidgen.models.checkpoint import gguf

    metadata = gguf.read(path).metadata
    tokens = metadata.get("tokenizer.ggml.tokens") or []

    def mark(name: str) -> str:
        number = metadata.get(f"tokenizer.ggml.{name}_token_id")
        return str(tokens[number]) if isinstance(number, int) and 0 <= number < len(tokens) else ""

    jinja = metadata.get("tokenizer.chat_template")
    return Layout(jinja if isinstance(jinja, str) else "", go, mark("bos"), mark("eos"))


def _of_folder(folder: Path, go: GoTemplate | None) -> Layout:
    path, apart = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def mark(name: str) -> str:
        value = values.get(name)
        return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")

    jinja = apart.read_text(encoding="utf-8") if apart.is_file() else values.get("chat_template")
    return Layout(jinja if isinstance(jinja, str) else "", go, mark("bos_token"), mark("eos_token"))


def told_apart(answers: Sequence[str], ends: str) -> list[str]:
    """Return answers as they are scored: with the mark that ends them where one begins as another does.

    Example:
        >>> told_apart(["spam", "not spam"], "<end>"), told_apart(["hate", "hateful"], "<end>")
        (['spam', 'not spam'], ['hate<end>', 'hateful<end>'])
    """
    begins_another = any(
        other.startswith(one)
        for place, one in enumerate(answers)
        for number, other in enumerate(answers)
        if place != number
    )
    return [f"{answer}{ends}" for answer in answers] if begins_another else list(answers)
