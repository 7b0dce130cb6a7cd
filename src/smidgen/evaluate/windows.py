"""Texts cut into the windows that measuring reads, by the tokenizer inside a GGUF, with the place of every token.

The rule is that of llama.cpp's perplexity tool: the text becomes one stream of tokens, cut every ``length``
tokens, the rest left out; where the model wants a begin-of-text token, the first token of each window is replaced
by it; of each window only the tokens after the first half are scored, so that each has half a window before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from smidgen.data.rows import Corpus
from smidgen.errors import InvalidInput
from smidgen.inference.scoring import PromptScorer

_GENEROUS = 24  # characters per token that suffice for almost any text
_MARGIN = 64  # tokens before a cut through the text that the cut might have changed


@dataclass(frozen=True)
class Text:
    """What is measured: a name and the exact characters.

    Attributes:
        name: What reports call it.
        content: The characters.
    """

    name: str
    content: str

    @classmethod
    def of(cls, corpus: Corpus, name: str | None = None) -> Text:
        r"""Take a corpus as its documents with an empty line between them.

        Args:
            corpus: The documents.
            name: Another name than the corpus's.

        Example:
            >>> from smidgen.data.rows import Row
            >>> Text.of(Corpus("two", (Row("One.\n"), Row("Two.")))).content
            'One.\n\nTwo.\n'
        """
        content = "\n\n".join(row.plain.strip("\n") for row in corpus.rows) + "\n"
        return cls(name or corpus.name, content)

    @property
    def sha256(self) -> str:
        """Digest of the characters in UTF-8, as of the text written to a file."""
        return hashlib.sha256(self.content.encode(errors="replace")).hexdigest()


@dataclass(frozen=True)
class Stream:
    """A text's tokens and where in the text each one ends.

    Attributes:
        ids: int64 [n], the begin-of-text token first where the model wants one.
        ends: int64 [n], bytes of the text up to and with each token.
        begin: The begin-of-text token, None where the model wants none.
    """

    ids: NDArray[numpy.int64]
    ends: NDArray[numpy.int64]
    begin: int | None

    @property
    def starts(self) -> NDArray[numpy.int64]:
        """Bytes of the text before each token, int64 [n]."""
        return numpy.concatenate([numpy.zeros(1, numpy.int64), self.ends[:-1]])


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        ids: The tokens as the model reads them.
        first: The last token that is only context: the tokens after it are scored.
        span: Bytes of the text at which the window begins, the scored part begins, and both end.
    """

    ids: list[int]
    first: int
    span: tuple[int, int, int]

    @property
    def scored_bytes(self) -> int:
        """Bytes of text that the scored tokens stand for."""
        return self.span[2] - self.span[1]


def tokenize(scorer: PromptScorer, content: str, pieces: Sequence[bytes]) -> Stream:
    """Cut a text into the tokens of the model behind ``scorer``.

    Args:
        scorer: The model.
        content: The text; special tokens spelled out in it are plain text.
        pieces: The scorer's `pieces`.
    """
    lengths = numpy.array([len(piece) for piece in pieces], numpy.int64)
    ids = numpy.array(scorer.tokenize(content), numpy.int64)
    ends = numpy.cumsum(lengths[ids])
    if scorer.bos_token is not None:
        ids = numpy.concatenate([[scorer.bos_token], ids])
        ends = numpy.concatenate([[0], ends])
    return Stream(ids, ends, scorer.bos_token)


def cut(scorer: PromptScorer, text: Text, pieces: Sequence[bytes], *, length: int, count: int) -> list[Window]:
    """Cut a text's beginning into at most ``count`` windows of ``length`` tokens.

    Args:
        scorer: The model whose tokens are meant.
        text: What to cut.
        pieces: The scorer's `pieces`.
        length: Tokens per window, at least 4.
        count: At most so many windows, at least 1.

    Returns:
        At least one window, consecutive.

    Raises:
        InvalidInput: The text has fewer tokens than one window, or ``length`` or ``count`` is too small.
    """
    if length < 4 or count < 1:
        raise InvalidInput(
            f"Measuring needs windows of at least 4 tokens and at least 1 of them, not {length}, {count}."
        )
    needed, taken = length * count, _GENEROUS * length * count
    stream = tokenize(scorer, text.content[:taken], pieces)
    while taken < len(text.content) and len(stream.ids) < needed + _MARGIN:
        taken *= 2
        stream = tokenize(scorer, text.content[:taken], pieces)
    number = min(count, len(stream.ids) // length)
    if number == 0:
        raise InvalidInput(
            f"{text.name} has {len(stream.ids):,} tokens; one window needs {length:,}.",
            remedy="Give more text, or measure with shorter windows.",
        )
    return [_window(stream, index * length, length) for index in range(number)]


def _window(stream: Stream, begin: int, length: int) -> Window:
    ids, first = stream.ids[begin : begin + length].tolist(), length // 2
    span = (int(stream.starts[begin]), int(stream.ends[begin + first]), int(stream.ends[begin + length - 1]))
    return Window([stream.begin, *ids[1:]] if stream.begin is not None else ids, first, span)


def recut(scorer: PromptScorer, content: str, pieces: Sequence[bytes], windows: Sequence[Window]) -> Iterator[Window]:
    """Cut the same stretches of text into the tokens of another model.

    A stretch begins and ends at that model's nearest token inside, so up to one token at each edge is left out.

    Args:
        scorer: The other model; its context bounds a window's length.
        content: The text of ``windows``.
        pieces: The scorer's `pieces`.
        windows: Windows of the first model.
    """
    # A token more than the last window's end suffices, but a cut through a word would change its last tokens.
    prefix = content.encode(errors="replace")[: windows[-1].span[2] + 4 * _MARGIN].decode(errors="ignore")
    stream = tokenize(scorer, prefix, pieces)
    starts = stream.starts
    for window in windows:
        begin, scored = (int(each) for each in numpy.searchsorted(starts, window.span[:2]))
        end = int(numpy.searchsorted(stream.ends, window.span[2], side="right"))
        begin = max(begin, end - scorer.context)
        scored = max(scored, begin + 1)
        if end <= scored:
            continue
        ids = stream.ids[begin:end].tolist()
        span = (int(starts[begin]), int(starts[scored]), int(stream.ends[end - 1]))
        yield Window([stream.begin, *ids[1:]] if stream.begin is not None else ids, scored - 1 - begin, span)
