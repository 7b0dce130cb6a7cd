"""An engine without a model, for tests of programs that use smidgen: it answers with what it was told."""

from __future__ import annotations

import re
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from smidgen.errors import EngineFailed
from smidgen.inference.engine import Chunk, Message, Metrics
from smidgen.inference.options import GenerationOptions

_WORD = re.compile(r"\s*\S+|\s+")
_DIMENSIONS = 64


class Echo:
    """Answers a text with the same text, a conversation with its last message; a word is a token.

    Args:
        path: Taken so that it can stand in for other engines; not read.
        threads: Not used.
        context: Words that an answer may have with its prompt; unlimited where None.

    Example:
        >>> answer = Echo().complete("one two three", GenerationOptions(num_predict=2))
        >>> [(chunk.text, chunk.reason) for chunk in answer]
        [('one', None), (' two', None), ('', 'length')]
    """

    load_seconds = 0.0

    def __init__(self, path: Path | None = None, *, threads: int | None = None, context: int | None = None) -> None:
        self._context = context
        self._closed = False

    def chat(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Answer with the last message."""
        told = " ".join(message.content for message in messages)
        return self._answer(messages[-1].content if messages else "", len(_WORD.findall(told)), options)

    def complete(self, prompt: str, options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Answer with the prompt."""
        return self._answer(prompt, len(_WORD.findall(prompt)), options)

    def words(self, text: str) -> list[str]:
        """Cut a text into words, each with the white space before it."""
        return _WORD.findall(text)

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into words, each with a number that is the same in every process."""
        return [zlib.crc32(word.encode(errors="replace")) for word in self.words(text)]

    def embed(self, tokens: Sequence[int]) -> list[float]:
        """Return a vector of 64 values that counts words: texts that share words are near each other."""
        vector = [0.0] * _DIMENSIONS
        for token in tokens:
            vector[token % _DIMENSIONS] += 1.0
        return vector

    def _answer(self, text: str, prompt_tokens: int, options: GenerationOptions) -> Generator[Chunk, None, None]:
        if self._closed:
            raise EngineFailed("The engine is closed.", remedy="Open another one.")
        for stop in options.stop:
            text = text.partition(stop)[0]
        words = _WORD.findall(text)
        limit = len(words) if options.num_predict < 0 else options.num_predict
        if self._context is not None:
            limit = max(0, min(limit, self._context - prompt_tokens))
        for word in words[:limit]:
            yield Chunk(word)
        reason: Literal["stop", "length"] = "length" if limit < len(words) else "stop"
        yield Chunk("", True, reason, Metrics(prompt_tokens, min(limit, len(words)), 0.0, 0.0, 0.0))

    def close(self) -> None:
        """Refuse further requests."""
        self._closed = True

    def __enter__(self) -> Echo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
