"""How likely a model finds a prompt, token by token: what evaluation programs ask a server for.

llama.cpp's own server says that of what it writes only. Prompts are read by `smidgen.inference.scoring` in a process
beside it, which the scheduler keeps loaded, counts and closes as any other; both map the same file, so that most of
the weights lie in memory once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from smidgen.errors import EngineFailed, Unsupported
from smidgen.inference.speculation import OFF, Speculation
from smidgen.serving.exchange import FinalEvent, GenerationRequest, TextEvent, TokenLogprob
from smidgen.serving.faults import ContextExceeded
from smidgen.serving.options import known_options
from smidgen.serving.scheduler import LoadOptions

if TYPE_CHECKING:
    from smidgen.inference.engines.echo import Echo
    from smidgen.inference.scoring import PromptScorer
    from smidgen.serving.library import ServedModel
    from smidgen.serving.runner import Prompt, Sampling
    from smidgen.serving.service import Service

Found = TypeVar("Found")


@dataclass(frozen=True)
class ScoredPrompt:
    """A prompt as a model sees it.

    Attributes:
        tokens: Its tokens, each with its log-probability given all before it; NaN for a first one that nothing
            stands before. What the model itself puts before every text is left out.
        following: The token that is most likely to come next.
    """

    tokens: tuple[TokenLogprob, ...]
    following: TokenLogprob


class Scorer(Protocol):
    """Scores prompts, one at a time."""

    def score(self, prompt: str | Sequence[int], top: int) -> ScoredPrompt:
        """Score a text or tokens.

        Args:
            prompt: The text, or the tokens as they stand.
            top: How many of the likeliest tokens to report at each place.
        """
        ...

    def likelihoods(self, prompts: Sequence[str], endings: Sequence[str], empty: str) -> list[list[float]]:
        """Return ln p of each ending after each prompt; see `smidgen.inference.scoring.PromptScorer.likelihoods`."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into tokens, special ones read as such, with those that stand before every text."""
        ...

    def close(self) -> None:
        """Give the model's memory back."""
        ...


async def score(service: Service, request: GenerationRequest) -> ScoredPrompt:
    """Score a request's prompt, or its tokens.

    Raises:
        ModelNotFound: There is no such model.
        ContextExceeded: The prompt is longer than the context.
        Unsupported: The model's engine cannot score, or cannot score tokens.
        EngineFailed: The engine cannot load the model, or broke down.
    """
    model = await asyncio.to_thread(service.library.find, request.model)
    values = known_options({**request.defaults, **model.parameters, **request.options})
    async with service.scheduler.acquire(model, LoadOptions.of(values, "score"), request.keep_alive) as lease:
        assert isinstance(lease.runner, ScoringRunner)
        return await lease.runner.score(request.tokens or request.prompt or "", request.top_logprobs)


class ScoringRunner:
    """A model that is loaded for scoring only.

    Args:
        scorer: What scores.
        context: Tokens that one prompt may have.
        load_seconds: How long loading took.
    """

    lays_out: bool = False
    image_mark: str = ""
    slots: int = 1
    speculation: Speculation = OFF

    def __init__(self, scorer: Scorer, context: int, load_seconds: float) -> None:
        self.context: int | None = context
        self.load_seconds = load_seconds
        self._scorer = scorer
        self._alive = True
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="smidgen-scorer")

    async def score(self, prompt: str | Sequence[int], top: int) -> ScoredPrompt:
        """Score a text or tokens.

        Raises:
            ContextExceeded: It is longer than the context.
            EngineFailed: The process ended.
        """
        return await self._in_thread(lambda: self._scorer.score(prompt, top))

    async def likelihoods(self, prompts: Sequence[str], endings: Sequence[str], empty: str) -> list[list[float]]:
        """Return ln p of each ending after each prompt.

        Raises:
            InvalidInput: A prompt is longer than the context.
            EngineFailed: The process ended.
        """
        return await self._in_thread(lambda: self._scorer.likelihoods(prompts, endings, empty))

    async def _in_thread(self, work: Callable[[], Found]) -> Found:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except EngineFailed:
            self._alive = False
            raise

    def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[TextEvent | FinalEvent, None]:
        """Not done by a model that is loaded for scoring."""
        raise Unsupported("This model is loaded for scoring only.")

    async def tokenize(self, text: str) -> list[int]:
        """Cut a text into tokens, special ones read as such, with those that stand before every text."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._scorer.tokenize, text)

    async def detokenize(self, tokens: list[int]) -> str:
        """Not done by a model that is loaded for scoring."""
        raise Unsupported("This model is loaded for scoring only.")

    async def embed(self, texts: Sequence[list[int]]) -> list[list[float]]:
        """Not done by a model that is loaded for scoring."""
        raise Unsupported("This model is loaded for scoring only.")

    def alive(self) -> bool:
        """Say whether it can still answer."""
        return self._alive

    def resident_bytes(self) -> int:
        """Return 0: the memory counts as it was estimated."""
        return 0

    def close(self) -> None:
        """End the process."""
        self._alive = False
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._scorer.close()


def open_scorer(model: ServedModel, path: Path | None, context: int, threads: int | None) -> ScoringRunner:
    """Load a model for scoring.

    Args:
        model: The model.
        path: The file or folder that its engine opens; None for the echo engine.
        context: Tokens that one prompt may have.
        threads: Threads to compute with; the physical cores where None.

    Raises:
        Unsupported: The model has adapters, which would be left out.
        EngineFailed: The engine refuses it.
    """
    if path is None:
        from smidgen.inference.engines.echo import Echo

        return ScoringRunner(EchoScorer(Echo()), context, 0.0)
    if model.facts.get("adapters"):
        raise Unsupported(
            f"{model.name} cannot score prompts: its adapters are kept apart.",
            remedy="Work them in: smidgen merge ADAPTER --into MODEL.",
        )
    from smidgen.inference.scoring import PromptScorer

    opened = PromptScorer(path, threads=threads or None, context=context)
    return ScoringRunner(EngineScorer(opened), context, opened.load_seconds)


class EngineScorer:
    """Scores with a real model.

    Args:
        scorer: The opened model.
    """

    def __init__(self, scorer: PromptScorer) -> None:
        self._scorer = scorer
        self._known: list[bytes] = []

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into tokens, special ones read as such, with those that stand before every text."""
        return self._scorer.prompt_tokens(text)

    def likelihoods(self, prompts: Sequence[str], endings: Sequence[str], empty: str) -> list[list[float]]:
        """Return ln p of each ending after each prompt."""
        return self._scorer.likelihoods(prompts, endings, empty=empty)

    def score(self, prompt: str | Sequence[int], top: int) -> ScoredPrompt:
        """Score a text or tokens.

        Raises:
            ContextExceeded: It is longer than the context.
        """
        self._known = self._known or self._scorer.pieces()
        first = self._scorer.bos_token
        ids = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        if not ids:
            raise Unsupported("An empty prompt cannot be scored: this model puts nothing before a text.")
        if len(ids) > self._scorer.context:
            raise ContextExceeded
        found = self._scorer.likeliest_tokens(ids, count=max(1, top))
        places = [
            tuple(self._token(int(token), float(value)) for token, value in zip(*place, strict=True))
            for place in zip(found.ids, found.log_probabilities, strict=True)
        ]
        scored = [self._token(ids[0], math.nan)]
        for token, value, likeliest in zip(ids[1:], found.chosen, places, strict=False):
            scored.append(self._token(token, float(value), likeliest[:top]))
        hidden = 1 if isinstance(prompt, str) and ids[0] == first and len(ids) > 1 else 0
        best = places[-1][0]
        following = self._token(best.id, best.logprob, places[-1][:top])
        return ScoredPrompt(_as_written(scored[hidden:], prompt), following)

    def close(self) -> None:
        """End the process."""
        self._scorer.close()

    def _token(self, token: int, value: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        piece = self._known[token]
        return TokenLogprob(piece.decode(errors="replace"), value, piece, top, token)


def _as_written(tokens: list[TokenLogprob], prompt: str | Sequence[int]) -> tuple[TokenLogprob, ...]:
    """Take away the space that SentencePiece's tokenizers put before a text."""
    first = tokens[0]
    if not isinstance(prompt, str) or prompt.startswith(" ") or not first.bytes.startswith(b" "):
        return tuple(tokens)
    piece = first.bytes[1:]
    bare = TokenLogprob(piece.decode(errors="replace"), first.logprob, piece, first.top, first.id)
    return (bare, *tokens[1:])


class EchoScorer:
    """Scores for the echo engine: it is sure of every word.

    Args:
        engine: The echo engine.
    """

    def __init__(self, engine: Echo) -> None:
        self._engine = engine

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into words."""
        return self._engine.tokenize(text)

    def likelihoods(self, prompts: Sequence[str], endings: Sequence[str], empty: str) -> list[list[float]]:
        """Give every ending a log-probability of 0."""
        return [[0.0] * len(endings) for _ in prompts]

    def score(self, prompt: str | Sequence[int], top: int) -> ScoredPrompt:
        """Give every word but the first a log-probability of 0.

        Raises:
            Unsupported: The prompt is tokens, whose words the engine does not know.
        """
        if not isinstance(prompt, str):
            raise Unsupported("The echo engine does not give texts for tokens.")
        words = self._engine.words(prompt)
        tokens = [self._token(word, 0.0 if index else math.nan, top) for index, word in enumerate(words)]
        return ScoredPrompt(tuple(tokens), self._token(words[0] if words else "", 0.0, top))

    def close(self) -> None:
        """Refuse further requests."""
        self._engine.close()

    @staticmethod
    def _token(word: str, value: float, top: int) -> TokenLogprob:
        likeliest = (TokenLogprob(word, value, word.encode()),) if top and not math.isnan(value) else ()
        return TokenLogprob(word, value, word.encode(), likeliest)
