"""A served model as tasks need it: they run in a thread of their own and ask the server's models as a client does."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from smidgen.inference.engine import Message
from smidgen.serving.details import header_of
from smidgen.serving.exchange import EmbeddingRequest, GenerationRequest, TextEvent, Turn
from smidgen.serving.layout import plan
from smidgen.serving.library import ServedModel
from smidgen.serving.opening import context_of
from smidgen.serving.options import known_options
from smidgen.serving.scheduler import LoadOptions, Purpose
from smidgen.serving.scoring import ScoringRunner
from smidgen.serving.service import Service
from smidgen.tasks.layout import told_apart
from smidgen.tasks.task import Manner

Found = TypeVar("Found")


class TaskModel:
    """A model of a service; its methods are called in a thread that is not the event loop's.

    Args:
        service: The models.
        model: The model.
        loop: The service's event loop.

    Attributes:
        name: The model's name.
        context: Tokens that a prompt and its answer may have together.
    """

    def __init__(self, service: Service, model: ServedModel, loop: asyncio.AbstractEventLoop) -> None:
        self.name = model.name
        self._service, self._model, self._loop = service, model, loop
        self._stopped = False
        self._waiting: concurrent.futures.Future[Any] | None = None
        self.context = context_of(model, self._load("generate"), service.settings)

    def write(self, turns: Sequence[Message], manner: Manner) -> Iterator[str]:
        """Answer a conversation, piece by piece."""
        messages = tuple(Turn(turn.role, turn.content) for turn in turns)
        if manner.begun:
            messages = (*messages, Turn("assistant", manner.begun))
        return self._pieces(self._request(manner, messages=messages))

    def go_on(self, text: str, manner: Manner) -> Iterator[str]:
        """Continue a text as it stands."""
        return self._pieces(self._request(manner, prompt=text, raw=True))

    def likelihoods(
        self, conversations: Sequence[Sequence[Message]], answers: Sequence[str], *, empty: Sequence[Message]
    ) -> list[list[float]]:
        """Return ln p of each answer to each conversation, in nats."""
        prompts = [self._text(turns) for turns in conversations]
        endings = told_apart(answers, header_of(self._model).eos)
        return self._wait(self._likelihoods(prompts, endings, self._text(empty)))

    def count(self, text: str) -> int:
        """Count a text's tokens."""
        return self._wait(self._count(text))

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector for each text."""
        made = self._wait(self._service.embed(EmbeddingRequest(self.name, tuple(texts))))
        return [list(vector) for vector in made.vectors]

    def stop(self) -> None:
        """Let the thread that waits for something end with an error."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _request(self, manner: Manner, **more: Any) -> GenerationRequest:
        options = {
            "temperature": manner.temperature,
            "seed": manner.seed,
            "num_predict": manner.tokens,
            "repeat_penalty": manner.penalty,
            "stop": list(manner.stops),
        }
        return GenerationRequest(
            self.name, options=options, format=manner.schema, think=False, truncate=False, shift=False, **more
        )

    def _pieces(self, request: GenerationRequest) -> Iterator[str]:
        events = self._service.generate(request)
        try:
            while (event := self._wait(anext(events, None))) is not None:
                if isinstance(event, TextEvent):
                    yield event.text
        finally:
            asyncio.run_coroutine_threadsafe(events.aclose(), self._loop).result()

    def _text(self, turns: Sequence[Message]) -> str:
        messages = tuple(Turn(turn.role, turn.content) for turn in turns)
        return plan(self._model, GenerationRequest(self.name, messages=messages, think=False)).text(messages)

    def _load(self, purpose: Purpose) -> LoadOptions:
        return LoadOptions.of(known_options(self._model.options), purpose)

    async def _likelihoods(self, prompts: Sequence[str], endings: Sequence[str], empty: str) -> list[list[float]]:
        async with self._service.scheduler.acquire(self._model, self._load("score"), None) as lease:
            assert isinstance(lease.runner, ScoringRunner)
            return await lease.runner.likelihoods(prompts, endings, empty)

    async def _count(self, text: str) -> int:
        async with self._service.scheduler.acquire(self._model, self._load("generate"), None) as lease:
            return len(await lease.runner.tokenize(text))

    def _wait(self, work: Coroutine[Any, Any, Found]) -> Found:
        if self._stopped:
            work.close()
            raise concurrent.futures.CancelledError
        self._waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        found: Found = self._waiting.result()
        return found
