"""OpenAI's API, below /v1: chats, completions, vectors, and the names of models."""

from __future__ import annotations

import array
import asyncio
import base64
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from smidgen.errors import InvalidInput
from smidgen.serving.dialects import _openai_completions as completions
from smidgen.serving.dialects._merging import gathered, merged
from smidgen.serving.dialects._openai_fields import Chat, Completion, Embed, variants
from smidgen.serving.dialects._openai_writing import (
    Chunks,
    Usage,
    chat_delta,
    chat_logprobs,
    chat_message,
    error_body,
    event_text,
    finish_reason,
    new_id,
    whole,
)
from smidgen.serving.exchange import Event, FinalEvent, GenerationRequest, TextEvent, ThinkingEvent, ToolCallEvent
from smidgen.serving.faults import status_of
from smidgen.serving.service import Answer, Service, collect
from smidgen.serving.wire import EVENT_STREAM, described, json_answer, read, streamed, unless_gone

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError
    from smidgen.serving.library import ServedModel


class Openai:
    """The routes that OpenAI's clients ask for."""

    prefixes = ("/v1/",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""
        api = _Api(service)
        router = APIRouter()
        router.add_api_route("/v1/chat/completions", api.chat, methods=["POST"], **described(Chat))
        router.add_api_route("/v1/completions", api.complete, methods=["POST"], **described(Completion))
        router.add_api_route("/v1/embeddings", api.embed, methods=["POST"], **described(Embed))
        router.add_api_route("/v1/models", api.models, methods=["GET"], response_model=None)
        router.add_api_route("/v1/models/{name:path}", api.model, methods=["GET"], response_model=None)
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return error_body(error, status)


class _Api:
    """The routes' work."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def chat(self, http: Request) -> Response:
        asked = await read(http, Chat, self.service.settings)
        self._check_count(asked.n)
        requests = variants(asked.request(), asked.n)
        number = new_id("chatcmpl-")
        if asked.stream:
            chunks = Chunks("chat.completion.chunk", asked.model, number, asked.stream_options.include_usage)
            return await streamed(http, self._chat_events(requests, chunks), _broken, EVENT_STREAM)
        answers = await unless_gone(http, self._all(requests))
        usage = Usage()
        for index, answer in enumerate(answers):
            usage.add(answer.final, same_prompt=index > 0)
        choices = [_chat_choice(index, answer) for index, answer in enumerate(answers)]
        return json_answer(whole("chat.completion", asked.model, number, choices, usage))

    async def complete(self, http: Request) -> Response:
        asked = await read(http, Completion, self.service.settings)
        prompts = asked.requests()
        self._check_count(len(prompts) * asked.n)
        requests = [each for request in prompts for each in variants(request, asked.n)]
        number = new_id("cmpl-")
        wanted = completions.Wanted(asked.echo, asked.logprobs, asked.n)
        if asked.stream:
            chunks = Chunks("text_completion", asked.model, number, asked.stream_options.include_usage)
            parts = completions.chunks(self.service, requests, wanted, chunks)
            return await streamed(http, parts, _broken, EVENT_STREAM)
        choices, usage = await unless_gone(http, completions.choices(self.service, requests, wanted))
        return json_answer(whole("text_completion", asked.model, number, choices, usage))

    async def embed(self, http: Request) -> Response:
        asked = await read(http, Embed, self.service.settings)
        made = await unless_gone(http, self.service.embed(asked.request()))
        write = _base64 if asked.encoding_format == "base64" else list
        answer = json_answer(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "embedding": write(vector), "index": index}
                    for index, vector in enumerate(made.vectors)
                ],
                "model": asked.model,
                "usage": {"prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens},
            }
        )
        if made.pooled:
            answer.headers["X-Smidgen-Pooling"] = "mean"
        return answer

    async def models(self, http: Request) -> Response:
        found = await asyncio.to_thread(self.service.library.list)
        return json_answer({"object": "list", "data": [_listed(model) for model in found]})

    async def model(self, http: Request) -> Response:
        return json_answer(_listed(await asyncio.to_thread(self.service.library.find, http.path_params["name"])))

    def _check_count(self, count: int) -> None:
        if count > self.service.settings.max_texts:
            raise InvalidInput(f"at most {self.service.settings.max_texts} answers are made at once")

    async def _all(self, requests: list[GenerationRequest]) -> list[Answer]:
        """Make every answer, as many at once as a model has slots."""
        return await gathered([self._one(request) for request in requests], self.service.settings.slots)

    async def _one(self, request: GenerationRequest) -> Answer:
        async with aclosing(self.service.generate(request)) as events:
            return await collect(events)

    async def _chat_events(self, requests: list[GenerationRequest], chunks: Chunks) -> AsyncGenerator[str, None]:
        usage = Usage()
        begun: set[int] = set()
        called: set[int] = set()
        streams = [self.service.generate(request) for request in requests]
        async with aclosing(merged(streams, self.service.settings.slots)) as events:
            async for index, event in events:
                delta = chat_delta(event)
                if index not in begun:
                    begun.add(index)
                    delta = {"role": "assistant", "content": "", **delta}
                if delta:
                    yield chunks.chunk(_chat_chunk(index, delta, event))
                if isinstance(event, ToolCallEvent):
                    called.add(index)
                elif isinstance(event, FinalEvent):
                    usage.add(event, same_prompt=index > 0)
                    reason = finish_reason(event, index in called)
                    yield chunks.chunk({"index": index, "delta": {}, "finish_reason": reason})
        yield chunks.end(usage)


def _chat_chunk(index: int, delta: dict[str, Any], event: Event) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": None}
    if isinstance(event, TextEvent | ThinkingEvent) and event.logprobs:
        choice["logprobs"] = chat_logprobs(event.logprobs)
    return choice


def _chat_choice(index: int, answer: Answer) -> dict[str, Any]:
    return {
        "index": index,
        "message": chat_message(answer),
        "logprobs": chat_logprobs(answer.logprobs),
        "finish_reason": finish_reason(answer.final, bool(answer.calls)),
    }


def _broken(error: SmidgenError) -> str:
    return event_text(error_body(error, status_of(error)))


def _base64(vector: tuple[float, ...]) -> str:
    """Encode a vector as 32-bit floats, the lowest byte first."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode()


def _listed(model: ServedModel) -> dict[str, Any]:
    owner = model.name.rpartition("/")[0].rpartition("/")[2]
    return {"id": model.name, "object": "model", "created": int(model.modified), "owned_by": owner or "library"}
