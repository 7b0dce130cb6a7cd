"""A model whose words and likelihoods are given, for what tasks make of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from smidgen.inference.engine import Message
from smidgen.tasks.task import Manner


class Scripted:
    """Writes what a function returns for a conversation; a word is a token."""

    name = "scripted"

    def __init__(
        self,
        answer: Callable[[Sequence[Message], Manner], str] = lambda turns, manner: turns[-1].content,
        likelihood: Callable[[str, str], float] = lambda asked, answer: 0.0,
        vector: Callable[[str], list[float]] = lambda text: [float(len(text)), 1.0],
        context: int = 4096,
    ) -> None:
        self.context = context
        self.asked: list[list[Message]] = []
        self._answer, self._likelihood, self._vector = answer, likelihood, vector

    def write(self, turns: Sequence[Message], manner: Manner) -> Iterator[str]:
        self.asked.append(list(turns))
        used = sum(self.count(turn.content) for turn in turns)
        assert used + manner.tokens <= self.context, "the prompt and its answer do not fit the context"
        words = self._answer(turns, manner).split(" ")
        yield from (word if number == 0 else f" {word}" for number, word in enumerate(words[: manner.tokens]))

    def go_on(self, text: str, manner: Manner) -> Iterator[str]:
        return self.write([Message("user", text)], manner)

    def likelihoods(
        self, conversations: Sequence[Sequence[Message]], answers: Sequence[str], *, empty: Sequence[Message]
    ) -> list[list[float]]:
        self.asked += [list(turns) for turns in conversations]
        return [[self._likelihood(turns[-1].content, answer) for answer in answers] for turns in conversations]

    def count(self, text: str) -> int:
        return len(text.split())

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        return [self._vector(text) for text in texts]


@pytest.fixture
def scripted() -> Any:
    return Scripted
