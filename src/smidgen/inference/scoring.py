"""Prompt log-probabilities and full next-token distributions of a model, through the engine that users get.

The finished file itself is judged: llama.cpp reads a GGUF, torch a folder, in a child process, with the engine's own
kernels and tokenizer. Logits come in the order of the tokens; row i is the distribution of token i + 1.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy
from numpy.typing import NDArray

from smidgen.errors import DamagedFile, EngineFailed, InvalidInput, ReferenceNotFound, Unsupported
from smidgen.inference.branches import shared_beginning
from smidgen.inference.child import Child
from smidgen.machine import cores

_MODULE = "smidgen.inference.scoring_child"


def require_gguf(path: str | Path) -> Path:
    """Return the absolute path of a file that begins as a GGUF does.

    Raises:
        ReferenceNotFound: There is no such file.
        DamagedFile: The file is of another format.
        Unsupported: It is a folder.
    """
    file = Path(path).absolute()
    if file.is_dir():
        raise Unsupported(
            f"{str(path)!r} is a folder, and llama.cpp runs GGUF files.",
            remedy="Take the engine torch, or make a GGUF of it: smidgen quantize.",
        )
    if not file.is_file():
        raise ReferenceNotFound(f"There is no model file {str(path)!r}.", remedy="Give the path of a .gguf file.")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise DamagedFile(f"{str(path)!r} is not a GGUF file: it does not begin with the letters GGUF.")
    return file


@dataclass(frozen=True)
class Subject:
    """A model and how it is run for scoring.

    Attributes:
        path: A GGUF file or a folder.
        engine: ``llama_cpp`` or ``torch``; ``auto`` takes torch for folders.
        depth: Bits at which hierarchical matrices are read; all that they have where None.
        activations: Number format of what every linear layer reads, in torch; None leaves it as it is.
    """

    path: Path
    engine: Literal["auto", "llama_cpp", "torch"] = "auto"
    depth: int | None = None
    activations: str | None = None

    @property
    def in_torch(self) -> bool:
        """Whether torch runs it."""
        asked = self.engine == "torch" or self.activations is not None
        return asked or (self.engine == "auto" and self.path.is_dir())

    def checked(self) -> Subject:
        """Return it with an absolute path.

        Raises:
            ReferenceNotFound: There is no such file or folder.
            DamagedFile: llama.cpp is to run it, and it is no GGUF.
        """
        path = self.path.absolute()
        if not self.in_torch or not path.is_dir():
            path = require_gguf(path)
        return replace(self, path=path)


@dataclass(frozen=True)
class LikeliestTokens:
    """How likely n tokens are, and what would have been likelier.

    Attributes:
        chosen: ln p of each token but the first, given those before it, shape (n - 1,).
        ids: The likeliest tokens behind each token, the likeliest first, shape (n, count).
        log_probabilities: Their ln p, shape (n, count).
    """

    chosen: NDArray[numpy.float32]
    ids: NDArray[numpy.int64]
    log_probabilities: NDArray[numpy.float32]


@dataclass(frozen=True)
class Ending:
    """How likely an ending of a prompt is.

    Attributes:
        log_probability: ln p of all its tokens given the prompt, in nats.
        greedy: Whether every token of it is the likeliest one at its place.
    """

    log_probability: float
    greedy: bool


class PromptScorer:
    """A model, loaded in a child process, that scores tokens. A context manager.

    The same call gives the same bits again on the same machine and thread count.

    Args:
        path: The GGUF file or folder, or how it is to be run.
        threads: Threads to compute with; the physical cores that this process may use where None.
        context: The most tokens that one call may score.

    Attributes:
        path: The file.
        threads: Threads in use.
        context: The most tokens of one call.
        vocabulary_size: Number of tokens that the model knows.
        bos_token: The token that the model wants before every text, None where it wants none.
        load_seconds: How long the library took to load the model, in seconds.

    Raises:
        ReferenceNotFound: There is no such file.
        DamagedFile: The file is no GGUF.
        EngineFailed: The engine refuses the file; the message holds its last error.
    """

    def __init__(self, path: str | Path | Subject, *, threads: int | None = None, context: int = 512) -> None:
        if context < 1:
            raise InvalidInput(f"A context of {context} tokens holds nothing.", remedy="Give at least 1.")
        if threads is not None and threads < 1:
            raise InvalidInput(f"{threads} threads cannot compute.", remedy="Give at least 1.")
        subject = (path if isinstance(path, Subject) else Subject(Path(path))).checked()
        self.path = subject.path
        self.threads = threads or cores()[0]
        self.context = context
        self._child = Child(_MODULE, f"scoring {self.path.name}")
        options = {"engine": "torch" if subject.in_torch else "llama_cpp", "depth": subject.depth}
        options["activations"] = subject.activations
        facts = self._ask(path=str(self.path), threads=self.threads, context=context, **options)
        self.load_seconds: float = facts["load_seconds"]
        self.vocabulary_size: int = facts["vocabulary_size"]
        self.bos_token: int | None = facts["bos_token"]

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Cut a text into the model's tokens.

        Args:
            text: Any text.
            special: Read special tokens spelled out in the text as such, and add those that the model wants
                around a text. Otherwise the text is plain text.
        """
        encoded = base64.b64encode(text.encode(errors="replace")).decode()
        ids: list[int] = self._ask(do="tokenize", text=encoded, special=special)["ids"]
        return ids

    def prompt_tokens(self, text: str) -> list[int]:
        """Cut a prompt as it is laid out into tokens, special ones read as such, the token that begins a text once."""
        ids = self.tokenize(text, special=True)
        first = self.bos_token
        return ids[1:] if first is not None and ids[:2] == [first, first] else ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """Join tokens to a text; bytes that are no whole character become the replacement character."""
        text = self._ask(do="detokenize", ids=self._checked(ids, self._any_length))["text"]
        return base64.b64decode(text).decode(errors="replace")

    def pieces(self) -> list[bytes]:
        """Return the bytes that each token stands for, special tokens spelled out."""
        lengths: list[int] = self._ask(do="pieces")["lengths"]
        joined = bytes(self._receive_array(numpy.empty(sum(lengths), numpy.uint8)))
        ends = numpy.cumsum(lengths).tolist()
        return [joined[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def logits(self, ids: Sequence[int], *, start: int = 0) -> NDArray[numpy.float32]:
        """Return the scores of every possible next token.

        Args:
            ids: 1 to ``context`` tokens.
            start: First token whose row is wanted; rows before it are not computed, which saves time.

        Returns:
            Shape (len(ids) - start, vocabulary). Row i scores the token after ``ids[start + i]``.

        Raises:
            InvalidInput: Too many tokens, an unknown token, or ``start`` out of range.
        """
        checked = self._checked(ids, self.context)
        self._check_start(start, len(checked))
        self._ask(do="logits", ids=checked, start=start)
        return self._receive_array(numpy.empty((len(checked) - start, self.vocabulary_size), numpy.float32))

    def next_token_logprobs(self, ids: Sequence[int], *, start: int = 0) -> NDArray[numpy.float32]:
        """Return ln p(ids[i + 1] | ids[0..i]) for i from ``start`` on, in nats.

        Args:
            ids: 2 to ``context`` tokens.
            start: First token whose successor is scored.

        Returns:
            Shape (len(ids) - 1 - start,).

        Raises:
            InvalidInput: Too few or too many tokens, an unknown token, or ``start`` out of range.
        """
        checked = self._checked(ids, self.context)
        self._check_start(start, len(checked) - 1)
        self._ask(do="log_probabilities", ids=checked, start=start)
        return self._receive_array(numpy.empty(len(checked) - 1 - start, numpy.float32))

    def likeliest_tokens(self, ids: Sequence[int], *, count: int) -> LikeliestTokens:
        """Return what `next_token_logprobs` does, and the likeliest tokens at every place, the one behind all included.

        Args:
            ids: 1 to ``context`` tokens.
            count: How many of the likeliest to return at each place.

        Raises:
            InvalidInput: Too few or too many tokens, an unknown token, or a count out of range.
        """
        checked = self._checked(ids, self.context)
        if not 1 <= count <= self.vocabulary_size:
            raise InvalidInput(f"The {count} likeliest of {self.vocabulary_size} tokens cannot be told.")
        self._ask(do="likeliest_tokens", ids=checked, count=count)
        shape = (len(checked), count)
        return LikeliestTokens(
            self._receive_array(numpy.empty(len(checked) - 1, numpy.float32)),
            self._receive_array(numpy.empty(shape, numpy.int64)),
            self._receive_array(numpy.empty(shape, numpy.float32)),
        )

    def endings(
        self, questions: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], *, shared: Sequence[int] = ()
    ) -> list[list[Ending]]:
        """Return how likely endings of prompts are, each prompt read once and what prompts share once for all.

        Args:
            questions: For each its prompt, at least 1 token behind what is shared, and its endings, each at least 1.
            shared: Tokens that stand before every prompt.

        Returns:
            For each question one value per ending.

        Raises:
            InvalidInput: Too few or too many tokens, or an unknown one.
        """
        before = [int(token) for token in shared]
        sent = []
        for prompt, endings in questions:
            if not prompt or not all(len(ending) for ending in endings):
                raise InvalidInput("A prompt or an ending without tokens cannot be scored.")
            for ending in endings:  # the last token of an ending is never read
                self._checked([*before, *prompt, *ending], self.context + 1)
            sent.append([[int(token) for token in prompt], [[int(token) for token in each] for each in endings]])
        answer = self._ask(do="endings", shared=before, questions=sent)
        found = iter([Ending(*each) for each in zip(answer["values"], answer["greedy"], strict=True)])
        return [[next(found) for _ in endings] for _, endings in questions]

    def likelihoods(self, prompts: Sequence[str], endings: Sequence[str], *, empty: str) -> list[list[float]]:
        """Return ln p of each ending after each prompt, in nats.

        An ending begins with a token of its own, as what a model writes does.

        Args:
            prompts: Texts as the model reads them.
            endings: Texts that may come next; special tokens spelled out in them are read as such.
            empty: A prompt with nothing in it; how it and all others begin is read once.

        Raises:
            InvalidInput: A prompt is too long for the context, or has no token.
        """
        following = [self.tokenize(ending, special=True) for ending in endings]
        begins = [] if self.bos_token is None else [self.bos_token]
        following = [ids[len(begins) :] if begins and ids[:1] == begins else ids for ids in following]
        read = [self.prompt_tokens(prompt) for prompt in prompts]
        alike = shared_beginning([[*self.prompt_tokens(empty), -1], *read])
        shared = read[0][:alike] if read else []
        found = self.endings([(ids[alike:], following) for ids in read], shared=shared)
        return [[each.log_probability for each in row] for row in found]

    def time_prefill(self, tokens: int = 512) -> float:
        """Return the seconds that reading a prompt takes, as llama-bench's pp test does it.

        Random tokens are read in batches of 512 and the logits of the last one are computed.
        """
        self._check_count(tokens)
        return float(self._ask(do="prefill", tokens=tokens)["seconds"])

    def time_decode(self, tokens: int = 128, depth: int = 0) -> float:
        """Return the seconds that ``tokens`` tokens take one by one, as llama-bench's tg test does it.

        Args:
            tokens: How many are timed.
            depth: Tokens that are read before, untimed.
        """
        return sum(self.time_each_token(tokens, depth)[1])

    def time_each_token(self, tokens: int, depth: int = 0) -> tuple[float, list[float]]:
        """Return the seconds that reading ``depth`` tokens takes, and then those of each token one by one.

        Args:
            tokens: How many are timed one by one.
            depth: Tokens that are read before, as a prompt.

        Returns:
            Seconds of the prompt, 0 where it is empty, and of each token.
        """
        if depth < 0:
            raise InvalidInput(f"A depth of {depth} tokens is below 0.")
        self._check_count(tokens, depth)
        answer = self._ask(do="decode", tokens=tokens, depth=depth)
        return float(answer["read"]), [float(each) for each in answer["seconds"]]

    def peak_rss_bytes(self) -> int:
        """Return the largest memory that the child process ever held, model file included, in bytes."""
        return int(self._ask(do="peak")["bytes"])

    def close(self) -> None:
        """End the child process. May be called again."""
        self._child.close()

    def __enter__(self) -> PromptScorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    _any_length = 2**31 - 1

    def _ask(self, **request: Any) -> dict[str, Any]:
        if self._child.process.returncode is not None:
            raise EngineFailed(f"The scorer of {self.path.name} is closed.", remedy="Open another one.")
        try:
            self._child.send(**request)
            return self._child.receive()
        except BaseException:
            # An answer that was not read would be taken for that of the next request.
            self._child.kill()
            raise

    def _receive_array(self, target: NDArray[Any]) -> NDArray[Any]:
        try:
            self._child.read_into(target)
        except BaseException:
            self._child.kill()
            raise
        return target

    def _checked(self, ids: Sequence[int], most: int) -> list[int]:
        tokens = [int(token) for token in ids]
        if not 1 <= len(tokens) <= most:
            raise InvalidInput(
                f"{len(tokens)} tokens cannot be scored in a context of {most}.",
                remedy="Cut the text into windows, or open the scorer with a larger context.",
            )
        wrong = next((token for token in tokens if not 0 <= token < self.vocabulary_size), None)
        if wrong is not None:
            raise InvalidInput(f"Token {wrong} is not in the vocabulary of {self.vocabulary_size} tokens.")
        return tokens

    def _check_start(self, start: int, count: int) -> None:
        if not 0 <= start < count:
            raise InvalidInput(f"Scoring from position {start} on leaves nothing of {count} positions.")

    def _check_count(self, tokens: int, before: int = 0) -> None:
        if tokens < 1 or before + tokens > self.context:
            raise InvalidInput(
                f"{before} + {tokens} tokens do not fit a context of {self.context}.",
                remedy="Open the scorer with a larger context.",
            )
