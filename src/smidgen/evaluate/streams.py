"""What answers take that an engine writes at once: first token, each further token, end, and all together."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import EngineFailed
from smidgen.evaluate.speed import Latency, Rate

if TYPE_CHECKING:
    from smidgen.inference.engine import Engine
    from smidgen.inference.options import GenerationOptions

_WORDS = (
    "stone",
    "river",
    "apple",
    "cloud",
    "horse",
    "paper",
    "candle",
    "bridge",
    "silver",
    "garden",
    "window",
    "tree",
)


@dataclass(frozen=True)
class Timed:
    """One answer.

    Attributes:
        first: Seconds from the request to the first piece of text.
        end: Seconds from the request to the end.
        between: Seconds from each piece to the next one.
        tokens: Tokens that were written, as the engine counts them.
        prompt_tokens: Tokens of the prompt, 0 where the engine does not count them.
    """

    first: float
    end: float
    between: tuple[float, ...]
    tokens: int
    prompt_tokens: int

    @property
    def per_token(self) -> float:
        """Seconds of each token after the first."""
        return (self.end - self.first) / max(1, self.tokens - 1)


@dataclass(frozen=True)
class Round:
    """Answers that were written at once.

    Attributes:
        answers: What each took.
        seconds: From the first request to the last end.
    """

    answers: tuple[Timed, ...]
    seconds: float

    @property
    def tokens(self) -> int:
        """Tokens of all answers."""
        return sum(answer.tokens for answer in self.answers)


@dataclass(frozen=True)
class Streams:
    """Speed of so many answers at once.

    Attributes:
        streams: Answers written at once.
        tokens_per_second: All of them together.
        ttft_ms: Time to the first piece of text.
        between_tokens_ms: From one piece to the next.
        end_to_end_ms: From the request to the end.
        tokens: Tokens of one answer on average.
    """

    streams: int
    tokens_per_second: Rate
    ttft_ms: Latency
    between_tokens_ms: Latency
    end_to_end_ms: Latency
    tokens: float

    @classmethod
    def of(cls, streams: int, rounds: Sequence[Round]) -> Streams:
        """Summarise rounds of so many answers."""
        answers = [answer for each in rounds for answer in each.answers]
        rates = [each.seconds / max(1, each.tokens) for each in rounds]
        return cls(
            streams,
            Rate.of(1, rates),
            Latency.of([answer.first for answer in answers]),
            Latency.of([gap for answer in answers for gap in answer.between] or [0.0]),
            Latency.of([answer.end for answer in answers]),
            sum(answer.tokens for answer in answers) / len(answers),
        )


def prompt_of(tokens: int, number: int) -> str:
    """Return a prompt of about so many tokens that begins unlike any other, so that no cache helps.

    Example:
        >>> prompt_of(8, 1) == prompt_of(8, 1) != prompt_of(8, 2)
        True
    """
    chance = random.Random(f"prompt {number} {tokens}")
    words = " ".join(chance.choice(_WORDS) for _ in range(max(1, tokens - 4)))
    return f"{number}: {words}\nOnce more: {words.split()[0]}"


def measure_streams(engine: Engine, prompts: Sequence[str], tokens: int) -> Round:
    """Let an engine continue prompts all at once, always with the likeliest token.

    Args:
        engine: The opened engine.
        prompts: One for each answer.
        tokens: Most tokens of each.

    Raises:
        EngineFailed: An answer is empty, so that it has no speed.
    """
    from smidgen.inference.options import GenerationOptions

    options = GenerationOptions(temperature=0, seed=0, num_predict=tokens, repeat_penalty=1.0)
    started = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        answers = tuple(pool.map(lambda prompt: _timed(engine, prompt, options), prompts))
    return Round(answers, time.perf_counter() - started)


def _timed(engine: Engine, prompt: str, options: GenerationOptions) -> Timed:
    started = time.perf_counter()
    times: list[float] = []
    counted, prompt_tokens = 0, 0
    for chunk in engine.complete(prompt, options):
        if chunk.text:
            times.append(time.perf_counter() - started)
        if chunk.metrics is not None:
            counted, prompt_tokens = chunk.metrics.generated_tokens, chunk.metrics.prompt_tokens
    if not times:
        raise EngineFailed("The model wrote nothing, so that its speed cannot be measured.")
    between = tuple(later - earlier for earlier, later in itertools.pairwise(times))
    return Timed(times[0], times[-1], between, max(counted, 1), prompt_tokens)
