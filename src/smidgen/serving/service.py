"""What all dialects stand on: the models, and how a request becomes a stream of events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from smidgen.errors import InvalidInput, Unsupported
from smidgen.inference.images import pixels_of, plain_all
from smidgen.inference.options import GenerationOptions
from smidgen.inference.schema_reader import SchemaReader
from smidgen.inference.structured import schema_of, tool_call_schema
from smidgen.inference.tool_calls import MARKS
from smidgen.serving.details import capabilities
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
from smidgen.serving.faults import BodyTooLarge, ContextExceeded
from smidgen.serving.layout import Layout, plan, prompt_for
from smidgen.serving.library import Library, ServedModel
from smidgen.serving.metrics import Meters
from smidgen.serving.opening import build_scheduler, is_decoder
from smidgen.serving.options import known_options
from smidgen.serving.runner import Prompt, Runner, Sampling
from smidgen.serving.scheduler import LoadOptions, Purpose, Scheduler
from smidgen.serving.settings import ServingSettings
from smidgen.serving.tool_turns import chosen
from smidgen.serving.writing import write

MOST_LOGPROBS = 20


class Service:
    """The models of a store, ready to answer.

    Args:
        settings: The server's bounds.
        library: The models; those of the default store where None.

    Attributes:
        settings: The server's bounds.
        library: The models.
        scheduler: What keeps them loaded.
        meters: What is counted.
    """

    def __init__(self, settings: ServingSettings, library: Library | None = None) -> None:
        self.settings = settings
        self.library = library or Library()
        self.scheduler: Scheduler = build_scheduler(settings, self.library.store)
        self.meters = Meters(self.scheduler)
        self._schemas = SchemaReader()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Answer a request: any number of events, the last one a `FinalEvent`.

        Closing the generator stops the work and frees the slot.

        Raises:
            ModelNotFound: There is no such model.
            InvalidInput: The request cannot be understood.
            Unsupported: The model cannot do what is asked.
            QueueFull: Too many requests wait.
            ContextExceeded: The prompt is too long, and may not be cut.
            EngineFailed: The engine cannot load the model, or broke down.
        """
        started = time.perf_counter()
        layout, values, sampling = await asyncio.to_thread(self._prepare, request)
        wanted = LoadOptions.of(values, unguessed=sampling.top_logprobs is not None)
        async with self.scheduler.acquire(layout.model, wanted, request.keep_alive) as lease:
            ready = time.perf_counter()
            prompt = await prompt_for(layout, lease.runner)
            if request.render_only:
                yield TextEvent(_rendered(prompt, lease.runner.image_mark))
                yield FinalEvent("stop")
                return
            if prompt.images:
                prompt = await asyncio.to_thread(self._with_plain_images, prompt)
            said: list[str] = []
            events = write(layout, lease.runner, prompt, sampling)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, FinalEvent):
                        context = await _context(request, lease.runner, prompt.text, said)
                        end = time.perf_counter()
                        event = replace(
                            event, load_seconds=ready - started, total_seconds=end - started, context=context
                        )
                        self.meters.answered(layout.model.name, event)
                    elif isinstance(event, TextEvent):
                        said.append(event.text)
                    yield event

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Turn texts into vectors.

        Raises:
            ModelNotFound: There is no such model.
            ContextExceeded: A text is too long, and may not be cut.
            Unsupported: The model's engine gives no vectors.
        """
        started = time.perf_counter()
        if len(request.texts) > self.settings.max_texts:
            raise BodyTooLarge(f"at most {self.settings.max_texts} texts are taken at once")
        model = await asyncio.to_thread(self.library.find, request.model)
        values = known_options({**model.options, **request.options})
        decoder = await asyncio.to_thread(is_decoder, model)
        async with self.scheduler.acquire(model, LoadOptions.of(values, "embed"), request.keep_alive) as lease:
            load_seconds = time.perf_counter() - started
            texts = [await _within(lease.runner, text, request.truncate) for text in request.texts]
            vectors = await lease.runner.embed([tokens for tokens in texts if tokens]) if any(texts) else []
        finished = iter(_finished(vector, request) for vector in vectors)
        width = len(vectors[0]) if vectors else 0
        empty = (0.0,) * min(width, request.dimensions or width)
        return Embeddings(
            tuple(next(finished) if tokens else empty for tokens in texts),
            prompt_tokens=sum(map(len, texts)),
            load_seconds=load_seconds,
            total_seconds=time.perf_counter() - started,
            pooled=decoder,
        )

    async def load(self, name: str, keep_alive: float | None = None, options: Mapping[str, Any] | None = None) -> float:
        """Load a model and return how many seconds that took."""
        model = await asyncio.to_thread(self.library.find, name)
        purpose: Purpose = "embed" if await asyncio.to_thread(capabilities, model) == ["embedding"] else "generate"
        wanted = LoadOptions.of(known_options({**model.options, **(options or {})}), purpose)
        async with self.scheduler.acquire(model, wanted, keep_alive) as lease:
            return lease.load_seconds

    async def unload(self, name: str) -> ServedModel:
        """Close a model as soon as nothing runs on it."""
        model = await asyncio.to_thread(self.library.find, name)
        await self.scheduler.unload(model.name)
        return model

    async def close(self) -> None:
        """Stop everything that runs."""
        await self.scheduler.close()
        await asyncio.to_thread(self._schemas.close)

    def _prepare(self, request: GenerationRequest) -> tuple[Layout, dict[str, Any], Sampling]:
        """Check everything about a request that needs no loaded model."""
        model = self.library.find(request.model)
        values = known_options({**request.defaults, **model.options, **request.options})
        if (values.get("num_ctx") or 0) > self.settings.max_context:
            raise InvalidInput(f'option "num_ctx" must be at most {self.settings.max_context}')
        if not 0 <= request.top_logprobs <= MOST_LOGPROBS:
            raise InvalidInput(f"top_logprobs must be between 0 and {MOST_LOGPROBS}")
        layout = plan(model, request)
        self._check_images(request)
        sampling = Sampling(
            GenerationOptions.from_mapping(values),
            schema=self._schema(request),
            grammar=self._grammar(request),
            top_logprobs=request.top_logprobs if request.logprobs else None,
            logit_bias=request.logit_bias,
            kept_marks=_kept_marks(layout),
            shift=request.shift,
        )
        return layout, values, sampling

    def _check_images(self, request: GenerationRequest) -> None:
        images = [*request.images, *(image for turn in request.messages or () for image in turn.images)]
        if len(images) > self.settings.max_images:
            raise BodyTooLarge(f"at most {self.settings.max_images} images are taken")
        if any(len(image) > self.settings.max_image for image in images):
            raise BodyTooLarge(f"an image is larger than {self.settings.max_image} bytes")
        if sum(map(pixels_of, images)) > self.settings.max_pixels:
            raise BodyTooLarge(f"the images are larger than {self.settings.max_pixels} pixels together")

    def _with_plain_images(self, prompt: Prompt) -> Prompt:
        """Unpack the images, now that there is a slot: those of requests that wait stay as they were sent."""
        return replace(prompt, images=tuple(plain_all(prompt.images, self.settings.max_pixels)))

    def _schema(self, request: GenerationRequest) -> dict[str, Any] | None:
        wanted: object = request.format
        if request.tools and request.tool_choice not in ("auto", "none"):
            if request.grammar is not None:
                raise Unsupported("a request may have a grammar or demand a call, not both")
            wanted = tool_call_schema(chosen(request.tools, request.tool_choice))
        if wanted is None:
            return None
        return schema_of(wanted, most_bytes=self.settings.max_grammar, fault_of=self._schemas.fault_of)

    def _grammar(self, request: GenerationRequest) -> str | None:
        if request.grammar is not None and len(request.grammar.encode()) > self.settings.max_grammar:
            raise InvalidInput(f"the grammar is longer than {self.settings.max_grammar} bytes")
        if request.grammar is not None and request.format is not None:
            raise Unsupported("a request may have a grammar or a format, not both")
        return request.grammar


def _kept_marks(layout: Layout) -> tuple[str, ...]:
    marks = layout.marks or () if layout.thinks is not None else ()
    if not layout.request.tools:
        return marks
    return (*marks, *(mark for pair in MARKS.items() for mark in pair if mark))


async def _context(request: GenerationRequest, runner: Runner, prompt: str, said: Sequence[str]) -> tuple[int, ...]:
    """Return the tokens of a whole exchange, for clients that send them back."""
    if not request.wants_context or runner.lays_out:
        return ()
    before = prompt.replace(runner.image_mark, "") if runner.image_mark else prompt
    return tuple(await runner.tokenize(before + "".join(said)))


def _rendered(prompt: Prompt, mark: str) -> str:
    """Return the text that a model would read, its images numbered."""
    text = prompt.text or "\n\n".join(turn.content for turn in prompt.turns)
    for number in range(len(prompt.images)):
        text = text.replace(mark, f"[img-{number}]", 1)
    return text


async def _within(runner: Runner, text: str, truncate: bool) -> list[int]:
    """Return a text's tokens, cut to what the context holds."""
    tokens = await runner.tokenize(text) if text else []
    if runner.context is not None and len(tokens) > runner.context:
        if not truncate:
            raise ContextExceeded
        return tokens[: runner.context]
    return tokens


def _finished(vector: Sequence[float], request: EmbeddingRequest) -> tuple[float, ...]:
    """Cut a vector and scale it to length 1."""
    kept = vector[: request.dimensions or None]
    length = sum(value * value for value in kept) ** 0.5
    return tuple(value / length for value in kept) if request.normalize and length else tuple(kept)


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
