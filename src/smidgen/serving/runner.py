"""What the scheduler keeps loaded: a model behind an asynchronous face, whatever engine runs it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from smidgen.errors import EngineFailed, Unsupported
from smidgen.inference.engine import Chunk, Demands, Engine, Message, TextEngine
from smidgen.inference.engines.echo import Echo
from smidgen.inference.images import PLACE
from smidgen.inference.options import GenerationOptions
from smidgen.inference.speculation import OFF, Speculation
from smidgen.serving.exchange import FinalEvent, TextEvent, Turn

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass(frozen=True)
class Prompt:
    """What a runner reads: a text, or, for runners that lay conversations out themselves, the turns.

    Attributes:
        text: The laid out text.
        tokens: The text's tokens, where they count instead of it; empty where they do not.
        turns: The conversation; empty where only the text counts.
        suffix: What shall stand behind the generated text.
        images: Images, in the order of their marks in the text.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    turns: tuple[Turn, ...] = ()
    suffix: str = ""
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Sampling:
    """How a runner writes.

    Attributes:
        options: The options of one answer.
        schema: JSON schema that the text must satisfy; None for free text.
        grammar: A GBNF grammar; None for free text.
        top_logprobs: How many likeliest tokens to report at each place; None for no log-probabilities.
        logit_bias: Token number to what is added to its score.
        kept_marks: Special tokens that are to be part of the text.
        shift: Go on behind the context's end by forgetting its beginning.
    """

    options: GenerationOptions
    schema: Mapping[str, Any] | None = None
    grammar: str | None = None
    top_logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    kept_marks: tuple[str, ...] = ()
    shift: bool = True


class Runner(Protocol):
    """A loaded model."""

    @property
    def context(self) -> int | None:
        """Tokens that one answer's context holds; None where there is no limit."""
        ...

    @property
    def slots(self) -> int:
        """Answers that it writes at once."""
        ...

    @property
    def lays_out(self) -> bool:
        """Whether it lays conversations out itself."""
        ...

    @property
    def image_mark(self) -> str:
        """What stands for an image in a prompt's text; empty where it reads none."""
        ...

    @property
    def load_seconds(self) -> float:
        """How long loading took."""
        ...

    @property
    def speculation(self) -> Speculation:
        """How tokens are guessed ahead."""
        ...

    def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[TextEvent | FinalEvent, None]:
        """Write; closing the generator stops the writing."""
        ...

    async def tokenize(self, text: str) -> list[int]:
        """Cut a laid out text into tokens, special ones read as such."""
        ...

    async def detokenize(self, tokens: list[int]) -> str:
        """Join tokens to a text."""
        ...

    async def embed(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """Return the vectors of texts, given as tokens, as the model gives them."""
        ...

    def alive(self) -> bool:
        """Say whether it can still answer."""
        ...

    def resident_bytes(self) -> int:
        """Return the memory that it holds now."""
        ...

    def close(self) -> None:
        """Give its memory back; may take a while, and may be called again."""
        ...


class EngineRunner:
    """Any engine of `smidgen.inference.engines`, run in threads of its own.

    Args:
        engine: The opened engine.
        context: Tokens that its context holds.
        threads: Answers that it gives at once.

    Attributes:
        lays_out: Whether the engine lays conversations out; those that continue any text get it laid out.
        image_mark: What stands for an image; empty where the model reads none.
    """

    speculation: Speculation = OFF

    def __init__(self, engine: Engine, context: int | None, threads: int) -> None:
        self.context: int | None = context
        self.slots = threads
        self.load_seconds = engine.load_seconds
        self._engine = engine
        self._seeing: Any = engine if getattr(engine, "sees", False) else None
        self.image_mark: str = PLACE if self._seeing is not None else ""
        # How images are laid out its family knows, and no template.
        self._writer = engine if isinstance(engine, TextEngine) and self._seeing is None else None
        self.lays_out: bool = self._writer is None
        self._is_open = True
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="smidgen-engine")

    async def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[TextEvent | FinalEvent, None]:
        """Write; closing the generator stops the writing at the next piece.

        Raises:
            Unsupported: The engine cannot do what is asked.
            EngineFailed: It broke down.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Chunk | BaseException] = asyncio.Queue()
        unwanted = threading.Event()
        answer = self._answer(prompt, sampling)
        work = loop.run_in_executor(self._pool, _pump, answer, pieces, loop, unwanted)
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, BaseException):
                    if isinstance(piece, EngineFailed) and not hasattr(self._engine, "alive"):
                        self._is_open = False
                    raise piece
                if piece.text:
                    yield TextEvent(piece.text)
                if piece.done:
                    yield _final(piece)
                    return
        finally:
            unwanted.set()
            await asyncio.shield(work)

    def _answer(self, prompt: Prompt, sampling: Sampling) -> Generator[Chunk, None, None]:
        """Return the engine's answer, not begun yet."""
        if self._writer is not None:
            name = type(self._engine).__name__.lower()
            if sampling.top_logprobs is not None:
                raise Unsupported(f"The engine {name} tells no log-probabilities of what it writes.")
            if prompt.suffix:
                raise Unsupported(f"The engine {name} does not fill in before a suffix.")
            demands = Demands(sampling.schema, sampling.grammar, sampling.logit_bias, sampling.kept_marks)
            return self._writer.write(prompt.tokens or prompt.text, sampling.options, demands)
        if self._seeing is not None and prompt.turns:
            if sampling.top_logprobs is not None:
                raise Unsupported("A model that reads images tells no log-probabilities of what it writes.")
            demands = Demands(sampling.schema, sampling.grammar, sampling.logit_bias, sampling.kept_marks)
            seen: Generator[Chunk, None, None] = self._seeing.chat(_shown(prompt), sampling.options, demands)
            return seen
        if self._seeing is not None and prompt.images:
            raise Unsupported("This model reads images in conversations only, not in raw prompts.")
        if (sampling.schema is not None or sampling.grammar is not None) and not isinstance(self._engine, Echo):
            raise Unsupported("This model's engine does not write by a grammar.")
        if prompt.turns:
            turns = [Message(turn.role, turn.content) for turn in prompt.turns]
            return self._engine.chat(turns, sampling.options)
        return self._engine.complete(prompt.text, sampling.options)

    async def tokenize(self, text: str) -> list[int]:
        """Cut a text into the engine's tokens, where it has a tokenizer; else words are counted."""
        tokenize = getattr(self._engine, "tokenize", None)
        if tokenize is None:
            return list(range(len(text.split())))
        return list(await asyncio.to_thread(tokenize, text))

    async def detokenize(self, tokens: list[int]) -> str:
        """Join tokens to a text.

        Raises:
            Unsupported: The engine has no tokenizer.
        """
        detokenize = getattr(self._engine, "detokenize", None)
        if detokenize is None:
            raise Unsupported("This model's engine does not give texts for tokens.")
        return str(await asyncio.to_thread(detokenize, tokens))

    async def embed(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """Return the vectors of texts, given as tokens.

        Raises:
            Unsupported: The engine gives none.
        """
        embed = getattr(self._engine, "embed", None)
        if embed is None:
            raise Unsupported("This model's engine gives no embeddings.")
        return [list(await asyncio.to_thread(embed, tokens)) for tokens in texts]

    def alive(self) -> bool:
        """Say whether it can still answer."""
        says = getattr(self._engine, "alive", None)
        return self._is_open and (says is None or bool(says()))

    def resident_bytes(self) -> int:
        """Return the memory that the engine says it holds."""
        measure = getattr(self._engine, "resident_bytes", None)
        return int(measure()) if measure is not None else 0

    def close(self) -> None:
        """End the engine."""
        self._is_open = False
        self._pool.shutdown(wait=True)
        self._engine.close()


def _shown(prompt: Prompt) -> list[Message]:
    """Return a prompt's turns with their images, as these were made plain."""
    left, found = list(prompt.images), []
    for turn in prompt.turns:
        own, left = left[: len(turn.images)], left[len(turn.images) :]
        found.append(Message(turn.role, turn.content, tuple(own)))
    return found


def _pump(
    answer: Generator[Chunk, None, None],
    pieces: asyncio.Queue[Chunk | BaseException],
    loop: asyncio.AbstractEventLoop,
    unwanted: threading.Event,
) -> None:
    """Hand an answer's pieces over to the event loop, until they are unwanted."""
    try:
        for piece in answer:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)
            if unwanted.is_set():
                return
    except BaseException as error:
        loop.call_soon_threadsafe(pieces.put_nowait, error)
    finally:
        answer.close()


def _final(chunk: Chunk) -> FinalEvent:
    metrics = chunk.metrics
    if metrics is None:
        return FinalEvent(chunk.reason or "stop", stop_text=chunk.stop_text)
    return FinalEvent(
        chunk.reason or "stop",
        prompt_tokens=metrics.prompt_tokens,
        generated_tokens=metrics.generated_tokens,
        prompt_seconds=metrics.prompt_seconds,
        generation_seconds=metrics.generation_seconds,
        stop_text=chunk.stop_text,
        drafted_tokens=metrics.drafted_tokens,
        accepted_tokens=metrics.accepted_tokens,
    )
