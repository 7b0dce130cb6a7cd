"""The child process of `smidgen.inference.scoring`: holds the model, answers requests until the parent closes."""

from __future__ import annotations

import base64
import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from smidgen.errors import SmidgenError
from smidgen.inference import branches
from smidgen.inference.child import Parent, peak_resident_bytes, run
from smidgen.inference.llama_library import CHUNK, LibraryError, LlamaLibrary

if TYPE_CHECKING:
    from smidgen.inference.torch_library import TorchLibrary

_ROWS = 64  # rows whose normaliser is computed at a time; bounds the memory of the exponentials


def log_probabilities(logits: NDArray[numpy.float32], targets: NDArray[numpy.int64]) -> NDArray[numpy.float32]:
    """Return ln softmax(logits)[i, targets[i]] for every row i, in nats.

    Args:
        logits: Shape (n, vocabulary).
        targets: Shape (n,), the token that came next after each row.

    Example:
        >>> print(log_probabilities(numpy.zeros((1, 4), numpy.float32), numpy.array([2])))
        [-1.3862944]
    """
    result = numpy.empty(len(targets), numpy.float32)
    for begin in range(0, len(targets), _ROWS):
        rows = logits[begin : begin + _ROWS]
        chosen = rows[numpy.arange(len(rows)), targets[begin : begin + _ROWS]]
        result[begin : begin + _ROWS] = _less_normaliser(rows, chosen[:, None])[:, 0]
    return result


def _less_normaliser(rows: NDArray[numpy.float32], chosen: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
    """Turn each row's chosen logits into log-probabilities."""
    top = rows.max(axis=1, keepdims=True)
    total = numpy.exp(rows - top).sum(axis=1, dtype=numpy.float64, keepdims=True)
    values: NDArray[numpy.float32] = (chosen - top - numpy.log(total)).astype(numpy.float32)
    return values


def likeliest(logits: NDArray[numpy.float32], count: int) -> tuple[NDArray[numpy.int64], NDArray[numpy.float32]]:
    """Return each row's ``count`` likeliest tokens, the likeliest first, and their log-probabilities in nats.

    Args:
        logits: Shape (n, vocabulary).
        count: How many tokens.

    Example:
        >>> tokens, values = likeliest(numpy.log(numpy.array([[0.2, 0.5, 0.3]], numpy.float32)), 2)
        >>> print(tokens, values.round(2))
        [[1 2]] [[-0.69 -1.2 ]]
    """
    tokens = numpy.empty((len(logits), count), numpy.int64)
    values = numpy.empty((len(logits), count), numpy.float32)
    for begin in range(0, len(logits), _ROWS):
        rows = logits[begin : begin + _ROWS]
        best = numpy.argpartition(rows, -count, axis=1)[:, -count:]
        # Of equal logits the first token counts as the likeliest, as it does where the largest is taken.
        order = numpy.lexsort((best, -numpy.take_along_axis(rows, best, axis=1)))
        best = numpy.take_along_axis(best, order, axis=1)
        tokens[begin : begin + _ROWS] = best
        values[begin : begin + _ROWS] = _less_normaliser(rows, numpy.take_along_axis(rows, best, axis=1))
    return tokens, values


def score_endings(
    library: LlamaLibrary | TorchLibrary, shared: list[int], questions: list[tuple[list[int], list[list[int]]]]
) -> list[list[tuple[float, bool]]]:
    """Score the endings of prompts, what is common read once where the model can forget the rest again.

    Args:
        library: The model.
        shared: Tokens before every prompt.
        questions: Each question's prompt and endings.

    Returns:
        For each ending ln p of it, in nats, and whether every token of it is the likeliest.
    """
    found = []
    library.clear()
    _read(library, shared, 0)
    for prompt, endings in questions:
        position = len(shared) + len(prompt)
        _rewind(library, shared)
        first = _read(library, prompt, len(shared))[-1:]
        scored, read_on = [], False
        for ending in endings:
            rows = first
            if len(ending) > 1:
                if read_on:
                    _rewind(library, [*shared, *prompt])
                rows, read_on = numpy.concatenate([first, _read(library, ending[:-1], position, every=True)]), True
            targets = numpy.array(ending, numpy.int64)
            total = float(log_probabilities(rows, targets).sum(dtype=numpy.float64))
            scored.append((total, bool((rows.argmax(axis=1) == targets).all())))
        found.append(scored)
    return found


def _rewind(library: LlamaLibrary | TorchLibrary, ids: list[int]) -> None:
    """Bring the model to where it has read these tokens, which are the first of what it has read."""
    if ids and library.rewind(len(ids)):
        return
    library.clear()
    _read(library, ids, 0)


def _read(
    library: LlamaLibrary | TorchLibrary, ids: list[int], position: int, *, every: bool = False
) -> NDArray[numpy.float32]:
    """Read tokens chunk by chunk; return a copy of the logits of the last of them, or of every one."""
    rows = numpy.empty((0, library.vocabulary_size), numpy.float32)
    for begin in range(0, len(ids), CHUNK):
        chunk = ids[begin : begin + CHUNK]
        last = begin + len(chunk) == len(ids)
        first_row = 0 if every else len(chunk) - 1 if last else len(chunk)
        found = library.read(chunk, position + begin, first_row)
        rows = numpy.concatenate([rows, found]) if every else numpy.array(found)
    return rows


class Scorer:
    """Answers the parent's requests about one model."""

    def __init__(self, parent: Parent, request: dict[str, Any]) -> None:
        self._parent = parent
        started = time.perf_counter()
        self._library = _opened(request)
        parent.answer(
            load_seconds=time.perf_counter() - started,
            vocabulary_size=self._library.vocabulary_size,
            bos_token=self._library.bos_token,
        )

    def tokenize(self, text: str, special: bool) -> None:
        """Answer with the tokens of a text."""
        self._parent.answer(ids=self._library.tokenize(base64.b64decode(text), special))

    def detokenize(self, ids: list[int]) -> None:
        """Answer with the text of tokens."""
        self._parent.answer(text=base64.b64encode(self._library.detokenize(ids)).decode())

    def pieces(self) -> None:
        """Answer with the bytes of every token."""
        pieces = [self._library.piece(token) for token in range(self._library.vocabulary_size)]
        joined = numpy.frombuffer(b"".join(pieces), numpy.uint8)
        self._parent.answer([joined], lengths=[len(piece) for piece in pieces])

    def logits(self, ids: list[int], start: int) -> None:
        """Answer with the logits of the tokens from ``start`` on."""
        self._parent.answer(self._library.read_all(ids, start))

    def log_probabilities(self, ids: list[int], start: int) -> None:
        """Answer with the log-probability of each token after ``start``, given all before it."""
        targets = numpy.array(ids[start + 1 :], numpy.int64)
        found: list[NDArray[numpy.float32]] = []
        for rows in self._library.read_all(ids, start):
            done = sum(len(each) for each in found)
            following = targets[done : done + len(rows)]
            found.append(log_probabilities(rows[: len(following)], following))
        self._parent.answer(found)

    def likeliest_tokens(self, ids: list[int], count: int) -> None:
        """Answer with what `log_probabilities` does, and with the likeliest tokens at every place."""
        chosen: list[NDArray[numpy.float32]] = []
        tokens: list[NDArray[numpy.int64]] = []
        values: list[NDArray[numpy.float32]] = []
        done = 0
        for rows in self._library.read_all(ids, 0):
            done += len(rows)
            following = numpy.array(ids[done - len(rows) + 1 : done + 1], numpy.int64)
            chosen.append(log_probabilities(rows[: len(following)], following))
            best, probabilities = likeliest(rows, count)
            tokens.append(best)
            values.append(probabilities)
        self._parent.answer([*chosen, *tokens, *values])

    def endings(self, shared: list[int], questions: list[tuple[list[int], list[list[int]]]]) -> None:
        """Answer with how likely each question's endings are."""
        library = self._library
        longest = max((len(prompt) + len(each) for prompt, endings in questions for each in endings), default=0)
        if library.shares(len(shared) + longest):
            found = branches.score(library, shared, questions)
        else:
            found = [each for question in score_endings(library, shared, questions) for each in question]
        self._parent.answer(values=[each[0] for each in found], greedy=[each[1] for each in found])

    def prefill(self, tokens: int) -> None:
        """Answer with the seconds that reading a prompt takes."""
        ids = self._random_tokens(tokens)
        self._library.clear()
        started = time.perf_counter()
        self._read_prompt(ids)
        self._parent.answer(seconds=time.perf_counter() - started)

    def decode(self, tokens: int, depth: int) -> None:
        """Answer with the seconds that reading ``depth`` tokens takes, and those of each token after them."""
        ids = self._random_tokens(depth + tokens)
        self._library.clear()
        times = [time.perf_counter()]
        self._read_prompt(ids[:depth])
        times.append(time.perf_counter())
        for position in range(depth, depth + tokens):
            self._library.read(ids[position : position + 1], position, 0)
            times.append(time.perf_counter())
        spent = [later - earlier for earlier, later in itertools.pairwise(times)]
        self._parent.answer(read=spent[0] if depth else 0.0, seconds=spent[1:])

    def peak(self) -> None:
        """Answer with the largest memory that this process held."""
        self._parent.answer(bytes=peak_resident_bytes())

    def _read_prompt(self, ids: list[int]) -> None:
        for begin in range(0, len(ids), CHUNK):
            chunk = ids[begin : begin + CHUNK]
            last = begin + len(chunk) == len(ids)
            self._library.read(chunk, begin, len(chunk) - 1 if last else len(chunk))

    def _random_tokens(self, count: int) -> list[int]:
        ids: list[int] = numpy.random.default_rng(0).integers(0, self._library.vocabulary_size, count).tolist()
        return ids


def _opened(request: dict[str, Any]) -> LlamaLibrary | TorchLibrary:
    """Load the model into the engine that was asked for."""
    if request["engine"] == "llama_cpp":
        return LlamaLibrary(request["path"], request["threads"], request["context"])
    from smidgen.inference.torch_library import TorchLibrary

    try:
        return TorchLibrary(
            request["path"], request["threads"], depth=request["depth"], activations=request["activations"]
        )
    except SmidgenError as error:
        raise LibraryError(str(error)) from error


_ANSWERS: dict[str, Any] = {
    function.__name__: function
    for function in (
        Scorer.tokenize,
        Scorer.detokenize,
        Scorer.pieces,
        Scorer.logits,
        Scorer.log_probabilities,
        Scorer.likeliest_tokens,
        Scorer.endings,
        Scorer.prefill,
        Scorer.decode,
        Scorer.peak,
    )
}


def main(parent: Parent) -> None:
    """Load the model that the first request names, then answer requests."""
    try:
        scorer = Scorer(parent, parent.next_request())
    except LibraryError as error:
        parent.answer(error=str(error))
        return
    while True:
        request = parent.next_request()
        _ANSWERS[request.pop("do")](scorer, **request)


if __name__ == "__main__":
    run(main)
