"""What all dialects stand on: the models, and how a request becomes a stream of events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.inference.options import GenerationOptions
from smidgen.serving.exchange import (
    EmbeddingRequest,
    Embeddings,
    Event,
    FinalEvent,
    GenerationRequest,
    TextEvent,
    ThinkingEvent,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
    Turn,
)
from smidgen.serving.library import Library, ServedModel
from smidgen.serving.runner import Prompt, Sampling
from smidgen.serving.scheduler import LoadOptions, Scheduler
from smidgen.serving.settings import ServingSettings


class Service:
    """The models of a store, ready to answer.

    Args:
        settings: The server's bounds.
        library: The models; those of the default store where None.

    Attributes:
        settings: The server's bounds.
        library: The models.
        scheduler: What keeps them loaded.
    """

    def __init__(self, settings: ServingSettings, library: Library | None = None) -> None:
        from smidgen.serving.opening import build_scheduler

        self.settings = settings
        self.library = library or Library()
        self.scheduler: Scheduler = build_scheduler(settings)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Answer a request: any number of events, the last one a `FinalEvent`.

        Closing the generator stops the work and frees the slot.

        Raises:
            ModelNotFound: There is no such model.
            InvalidInput: The request cannot be understood.
            QueueFull: Too many requests wait.
            EngineFailed: The engine cannot load the model, or broke down.
        """
        started = time.perf_counter()
        model = self.library.find(request.model)
        values = {**request.defaults, **model.parameters, **request.options}
        options = GenerationOptions.from_mapping(values)
        async with self.scheduler.acquire(model, LoadOptions.of(values), request.keep_alive) as lease:
            prompt = Prompt(request.prompt or "", request.messages or ())
            events = lease.runner.generate(prompt, Sampling(options))
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, FinalEvent):
                        total = time.perf_counter() - started
                        yield replace(event, load_seconds=lease.load_seconds, total_seconds=total)
                    else:
                        yield event

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Turn texts into vectors.

        Raises:
            ModelNotFound: There is no such model.
            ContextExceeded: A text is too long, and may not be cut.
        """
        raise InvalidInput(f"model {request.model!r} gives no embeddings")

    async def load(self, name: str, keep_alive: float | None = None, options: dict[str, Any] | None = None) -> float:
        """Load a model and return how many seconds that took."""
        model = self.library.find(name)
        wanted = LoadOptions.of({**model.parameters, **(options or {})})
        async with self.scheduler.acquire(model, wanted, keep_alive) as lease:
            return lease.load_seconds

    async def unload(self, name: str) -> ServedModel:
        """Close a model as soon as nothing runs on it."""
        model = self.library.find(name)
        await self.scheduler.unload(model.name)
        return model

    async def close(self) -> None:
        """Stop everything that runs."""
        await self.scheduler.close()


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        text: Everything that was said.
        thinking: Everything that was thought.
        calls: The functions that the model wants called.
        logprobs: The tokens, where they were asked for.
        final: Its end.
    """

    text: str
    thinking: str
    calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLogprob, ...]
    final: FinalEvent

    @property
    def turn(self) -> Turn:
        """The answer as the conversation's next turn."""
        return Turn("assistant", self.text, self.thinking, tool_calls=self.calls)


async def collect(events: AsyncIterator[Event]) -> Answer:
    """Put an answer's events together."""
    text: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] = []
    final = FinalEvent("stop")
    async for event in events:
        if isinstance(event, TextEvent | ThinkingEvent):
            (text if isinstance(event, TextEvent) else thinking).append(event.text)
            logprobs += event.logprobs
        elif isinstance(event, ToolCallEvent):
            calls.append(event.call)
        else:
            final = event
    return Answer("".join(text), "".join(thinking), tuple(calls), tuple(logprobs), final)
