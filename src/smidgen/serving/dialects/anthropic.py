"""Anthropic's API, below /v1/messages: messages, and how many tokens they have."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from smidgen.serving.dialects._anthropic_fields import Count, Messages
from smidgen.serving.dialects._anthropic_writing import MessageWriter, error_body
from smidgen.serving.dialects._named_events import named_event_text, taken, written
from smidgen.serving.exchange import GenerationRequest
from smidgen.serving.faults import status_of
from smidgen.serving.options import known_options
from smidgen.serving.scheduler import LoadOptions
from smidgen.serving.service import Service, collect
from smidgen.serving.wire import EVENT_STREAM, described, json_answer, read, streamed, unless_gone

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError


class Anthropic:
    """The routes that Anthropic's clients ask for."""

    prefixes = ("/v1/messages",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""

        async def write(http: Request) -> Response:
            asked = await read(http, Messages, service.settings)
            writer = MessageWriter(asked.model)
            events = service.generate(asked.request())
            if not asked.stream:
                await unless_gone(http, taken(writer, events))
                return json_answer(writer.message())
            return await streamed(http, written(writer, events), _broken, EVENT_STREAM)

        async def count(http: Request) -> Response:
            asked = await read(http, Count, service.settings)
            return json_answer({"input_tokens": await unless_gone(http, _tokens(service, asked.request()))})

        router = APIRouter()
        router.add_api_route("/v1/messages", write, methods=["POST"], **described(Messages))
        router.add_api_route("/v1/messages/count_tokens", count, methods=["POST"], **described(Count))
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return error_body(error, status)


async def _tokens(service: Service, request: GenerationRequest) -> int:
    """Count the tokens of a laid out conversation."""
    async with aclosing(service.generate(replace(request, render_only=True))) as events:
        laid_out = await collect(events)
    model = await asyncio.to_thread(service.library.find, request.model)
    options = LoadOptions.of(known_options(model.parameters))
    async with service.scheduler.acquire(model, options, request.keep_alive) as lease:
        return len(await lease.runner.tokenize(laid_out.text))


def _broken(error: SmidgenError) -> str:
    return named_event_text(error_body(error, status_of(error)))
