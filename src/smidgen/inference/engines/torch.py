"""torch, the engine for what no GGUF can hold: folders whose matrices stay packed in formats of smidgen's own."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy

from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound, Unsupported
from smidgen.inference.engine import FREE, Chunk, Demands, Message, Metrics
from smidgen.inference.options import GenerationOptions
from smidgen.machine import cores
from smidgen.models.vision.texts import templated

if TYPE_CHECKING:
    from llguidance import LLTokenizer
    from numpy.typing import NDArray

    from smidgen.inference.guidance import Guide
    from smidgen.inference.torch_library import TorchLibrary

DEFAULT_CONTEXT = 4096
"""Tokens that the context holds where nothing else is asked for and the model can so many."""


class Torch:
    """A model computed by torch in this process.

    Takes folders in the transformers layout, folders of packed matrices, which are never unpacked as a whole, and GGUF
    files, which are dequantised. Slower than llama.cpp where that can run the model.

    Args:
        path: The folder or file.
        threads: Threads to compute with; the physical cores that this process may use where None.
        context: Tokens that the context holds; as many as a model of images can where None, since they take many.
        depth: Bits at which hierarchical matrices are read; all that they have where None.

    Raises:
        ReferenceNotFound: There is no such folder or file.
        DamagedFile: It cannot be read.
        Unsupported: Its architecture is not known.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        threads: int | None = None,
        context: int | None = None,
        depth: int | None = None,
    ) -> None:
        if path is None:
            raise InvalidInput("The engine torch needs a model.", remedy="Give a folder or a .gguf file.")
        if not Path(path).exists():
            raise ReferenceNotFound(f"There is no file or folder {str(path)!r}.", remedy="Check the path.")
        from smidgen.inference.torch_library import TorchLibrary

        started = time.perf_counter()
        library = TorchLibrary(Path(path), threads or cores()[0], fast=True, depth=depth)
        self._library: TorchLibrary | None = library
        longest = library.model.anatomy.context_length
        self._context = context or (longest if library.model.vision is not None else min(DEFAULT_CONTEXT, longest))
        self._ends = _end_tokens(library)
        self._held = FREE
        self.load_seconds = time.perf_counter() - started

    def chat(
        self, messages: Sequence[Message], options: GenerationOptions, demands: Demands | None = None
    ) -> Generator[Chunk, None, None]:
        """Answer a conversation, laid out with the model's own chat template.

        Of a message that is only images the text is read out.

        Args:
            messages: The conversation.
            options: How the answer is made.
            demands: What it must be; None: what answers are held to (`hold_to`).
        """
        from smidgen.inference import seeing

        library = self._opened()
        if not messages:
            raise InvalidInput("A conversation without messages has no answer.")
        turns = seeing.shown(library.model, messages)
        if library.model.vision is not None:
            ids = library.look(turns)
            answer = self._answer(ids, options, demands or self._held)
            yield from seeing.ended_by_spaces(answer, len(ids)) if seeing.is_reading(messages) else answer
            return
        text = templated(library.tokenizer, [(message.role, message.content) for message in messages])
        ids = library.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        yield from self._answer(ids, options, demands or self._held)

    @property
    def sees(self) -> bool:
        """Whether the model reads images."""
        return self._opened().model.vision is not None

    def complete(
        self, prompt: str, options: GenerationOptions, images: Sequence[bytes] = ()
    ) -> Generator[Chunk, None, None]:
        """Continue a text as it stands.

        Raises:
            Unsupported: There are images, which belong into conversations here.
        """
        if images:
            raise Unsupported("The engine torch reads images in conversations only.", remedy="Leave --raw out.")
        yield from self._answer(self._opened().tokenize(prompt.encode(errors="replace"), True), options, self._held)

    def write(
        self, prompt: str | Sequence[int], options: GenerationOptions, demands: Demands = FREE
    ) -> Generator[Chunk, None, None]:
        """Continue a laid out text, or its tokens, as demanded.

        Raises:
            InvalidInput: It is longer than the context, or the grammar cannot be understood.
        """
        ids = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        yield from self._answer(ids, options, demands)

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into tokens, special ones read as such, with those that stand before every text."""
        library = self._opened()
        bos = library.bos_token
        bare = text if bos is None else text.removeprefix(library.piece(bos).decode(errors="replace"))
        return library.tokenize(bare.encode(errors="replace"), True)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Join tokens to a text, special ones spelled out.

        Raises:
            InvalidInput: There is no such token.
        """
        library = self._opened()
        if any(not 0 <= token < library.vocabulary_size for token in tokens):
            raise InvalidInput(f"A token's number is not below {library.vocabulary_size:,}, the model's count of them.")
        return library.detokenize(tokens).decode(errors="replace")

    def embed(self, tokens: Sequence[int]) -> list[float]:
        """Return the mean of the tokens' last states, as llama.cpp gives it for models that were made to write."""
        return self._opened().mean_state(tokens)

    def hold_to(self, schema: Mapping[str, Any] | None) -> None:
        """Hold the answers from now on to a JSON schema; None lets them be free."""
        self._held = Demands(schema)

    def resident_bytes(self) -> int:
        """Return the memory that the model's tensors take."""
        from smidgen.models.packed import held_bytes

        if self._library is None:
            return 0
        model = self._library.model
        return held_bytes(model.module) + (held_bytes(model.vision.module) if model.vision is not None else 0)

    def close(self) -> None:
        """Let the model go. May be called again."""
        self._library = None

    def __enter__(self) -> Torch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> TorchLibrary:
        if self._library is None:
            raise EngineFailed("The engine is closed.", remedy="Open another one.")
        return self._library

    def _answer(self, prompt: list[int], options: GenerationOptions, demands: Demands) -> Generator[Chunk, None, None]:
        from smidgen.inference.pieces import Writing

        library, ids = self._opened(), prompt or [self._first()]
        if len(ids) >= self._context:
            raise InvalidInput(
                f"The prompt has {len(ids):,} tokens, and the context holds {self._context:,}.",
                remedy="Shorten it, or open a longer context with num_ctx.",
            )
        limit = self._context - len(ids)
        limit = limit if options.num_predict < 0 else min(limit, options.num_predict)
        turn = _Turn(library.session(), list(ids), options, len(ids), demands, self._guide(demands))
        writing = Writing(options.stop)
        reason: Literal["stop", "length"] = "length"
        for token in turn.tokens(limit):
            if token in self._ends:
                reason = "stop"
                break
            text = writing.add(b"" if token in turn.silent else library.piece(token))
            if text:
                yield Chunk(text)
            if writing.stopped or turn.is_over:
                reason = "stop"
                break
        if rest := writing.rest():
            yield Chunk(rest)
        yield Chunk("", True, reason, turn.metrics(self.load_seconds), writing.stopped)

    def _guide(self, demands: Demands) -> Guide | None:
        if demands.schema is None and demands.grammar is None:
            return None
        from smidgen.inference.guidance import Guide

        return Guide(self._guiding, demands)

    @cached_property
    def _guiding(self) -> LLTokenizer:
        from smidgen.inference.guidance import tokenizer_of

        library = self._opened()
        return tokenizer_of(library.tokenizer, library.vocabulary_size, self._ends)

    def _first(self) -> int:
        """Return the token that an answer to nothing begins after."""
        tokenizer = self._opened().tokenizer
        return next(each for each in (tokenizer.bos_token_id, tokenizer.eos_token_id, 0) if each is not None)


def _end_tokens(library: TorchLibrary) -> frozenset[int]:
    """Return the tokens that end an answer: those that model and tokenizer name, and the ends of turns by name."""
    found: set[int] = set()
    for named in (library.model.module.generation_config.eos_token_id, library.tokenizer.eos_token_id):
        found |= set(named) if isinstance(named, list) else {named} - {None}
    ends = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|endoftext|>")
    added = library.tokenizer.added_tokens_encoder
    vision = library.model.vision
    own = vision.family.end_tokens(vision, library.tokenizer) if vision is not None else frozenset()
    return frozenset(found | {added[token] for token in ends if token in added} | own)


@dataclass
class _Turn:
    """One answer while it is made.

    Attributes:
        library: The model.
        ids: Tokens so far.
        options: How the answer is made.
        prompt: How many of them the prompt has.
        demands: What the answer must be.
        guide: What holds it to a schema or a grammar; None where nothing does.
    """

    library: TorchLibrary
    ids: list[int]
    options: GenerationOptions
    prompt: int
    demands: Demands
    guide: Guide | None
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0

    def __post_init__(self) -> None:
        tokenizer = self.library.tokenizer
        kept = {tokenizer.convert_tokens_to_ids(mark) for mark in self.demands.marks}
        self.silent = frozenset(tokenizer.all_special_ids) - kept

    @property
    def is_over(self) -> bool:
        """Whether what was demanded is complete, and nothing may follow it."""
        return self.guide is not None and self.guide.is_over

    def tokens(self, limit: int) -> Generator[int, None, None]:
        """Read the prompt, then yield token after token."""
        from smidgen.inference.sampling import Sampler

        sampler, started = Sampler(self.options), time.perf_counter()
        row = None
        for rows in self.library.read_all(self.ids, self.prompt - 1):
            row = rows[-1] if len(rows) else row
        self.prompt_seconds = time.perf_counter() - started
        for number in range(limit):
            started = time.perf_counter()
            if number:
                row = self.library.next_row(self.ids)
            assert row is not None
            self.ids.append(sampler.choose(self._demanded(row), self.ids))
            if self.guide is not None:
                self.guide.take(self.ids[-1])
            self.generation_seconds += time.perf_counter() - started
            yield self.ids[-1]

    def _demanded(self, row: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
        """Raise and lower scores as demanded; tokens that may not come get minus infinity."""
        if self.guide is None and not self.demands.biases:
            return row
        row = row.copy()
        for token, bias in self.demands.biases.items():
            if token < len(row):
                row[token] += bias
        if self.guide is not None:
            row[~self.guide.allowed()[: len(row)]] = -numpy.inf
        return row

    def metrics(self, load_seconds: float) -> Metrics:
        """Say what the answer took."""
        made = len(self.ids) - self.prompt
        return Metrics(self.prompt, made, self.prompt_seconds, self.generation_seconds, load_seconds)
