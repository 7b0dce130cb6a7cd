"""Ollama's own API, below /api: answers, vectors, and what is known of models.

What writes models into the store (create, pull, push, blobs) is `ollama_store`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.serving import web
from smidgen.serving.dialects import _ollama_models as models
from smidgen.serving.dialects._ollama_fields import (
    Chat,
    Copy,
    Embed,
    Generate,
    LegacyEmbeddings,
    ModelBody,
    Named,
    Show,
)
from smidgen.serving.exchange import (
    EmbeddingRequest,
    Event,
    FinalEvent,
    GenerationRequest,
    TextEvent,
    ThinkingEvent,
    TokenLogprob,
    ToolCall,
    ToolCallEvent,
)
from smidgen.serving.faults import ModelNotFound
from smidgen.serving.scheduler import Loaded
from smidgen.serving.service import Answer, Service, collect
from smidgen.serving.wire import described, dumps, json_answer, read, streamed, unless_gone

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError

_NANO = 1_000_000_000


class Ollama:
    """The routes that Ollama's clients ask for."""

    prefixes = ("/",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""
        api = _Api(service)
        router = APIRouter()
        for path, answer in (("/", _running), ("/api/version", _version), ("/api/tags", api.tags)):
            router.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)
        router.add_api_route("/api/ps", api.ps, methods=["GET"], response_model=None)
        router.add_api_route("/api/status", _status, methods=["GET"], response_model=None)
        bodies: dict[str, tuple[Any, Any]] = {
            "generate": (api.generate, Generate),
            "chat": (api.chat, Chat),
            "embed": (api.embed, Embed),
            "embeddings": (api.embeddings, LegacyEmbeddings),
            "show": (api.show, Show),
            "copy": (api.copy, Copy),
        }
        for name, (answer, body) in bodies.items():
            router.add_api_route(f"/api/{name}", answer, methods=["POST"], **described(body))
        router.add_api_route("/api/delete", api.delete, methods=["DELETE"], **described(Named))
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return {"error": str(error)}


async def _running(http: Request) -> Response:
    """Show browsers the web page, and tell everybody else what Ollama's clients look for."""
    if web.wants_page(http.headers.get("accept", "")):
        return web.answer(http, web.assets()[web.PAGE], Vary="Accept")
    return PlainTextResponse("Ollama is running", headers={"Vary": "Accept"})


async def _version(http: Request) -> Response:
    import smidgen

    return json_answer({"version": smidgen.__version__})


async def _status(http: Request) -> Response:
    return json_answer({"cloud": {"disabled": True, "source": "none"}})


class _Api:
    """The routes' work."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def generate(self, http: Request) -> Response:
        asked = await read(http, Generate, self.service.settings)
        if not asked.prompt and not asked.images and not asked.suffix:
            return await self._load(http, asked, chat=False)
        return await self._answer(http, asked.request(), asked.stream)

    async def chat(self, http: Request) -> Response:
        asked = await read(http, Chat, self.service.settings)
        if not asked.messages:
            return await self._load(http, asked, chat=True)
        return await self._answer(http, asked.request(), asked.stream)

    async def embed(self, http: Request) -> Response:
        asked = await read(http, Embed, self.service.settings)
        request = EmbeddingRequest(
            _required(asked.model),
            asked.texts(),
            asked.truncate,
            asked.dimensions,
            options=asked.options,
            keep_alive=asked.keep_alive,
        )
        with _pull_first():
            made = await unless_gone(http, self.service.embed(request))
        body = {
            "model": asked.model,
            "embeddings": made.vectors,
            "total_duration": int(made.total_seconds * _NANO),
            "load_duration": int(made.load_seconds * _NANO),
            "prompt_eval_count": made.prompt_tokens,
        }
        answer = json_answer({key: value for key, value in body.items() if value or key in ("model", "embeddings")})
        if made.pooled:
            answer.headers["X-Smidgen-Pooling"] = "mean"
        return answer

    async def embeddings(self, http: Request) -> Response:
        asked = await read(http, LegacyEmbeddings, self.service.settings)
        texts = (asked.prompt,) if asked.prompt else ()
        request = EmbeddingRequest(
            _required(asked.model), texts, normalize=False, options=asked.options, keep_alive=asked.keep_alive
        )
        with _pull_first():
            made = await unless_gone(http, self.service.embed(request))
        return json_answer({"embedding": made.vectors[0] if made.vectors else []})

    async def tags(self, http: Request) -> Response:
        found = await asyncio.to_thread(lambda: [models.listed(model) for model in self.service.library.list()])
        return json_answer({"models": found})

    async def ps(self, http: Request) -> Response:
        # A model that writes and makes vectors is loaded for each, and shown once.
        found: dict[str, Loaded] = {}
        for loaded in self.service.scheduler.running():
            found.setdefault(loaded.model.name, loaded)
        return json_answer({"models": [models.running(loaded) for loaded in found.values()]})

    async def show(self, http: Request) -> Response:
        asked = await read(http, Show, self.service.settings)

        def describe() -> dict[str, Any]:
            return models.shown(
                self.service.library.find(asked.wanted),
                verbose=asked.verbose,
                system=asked.system,
                template=asked.template,
                options=asked.options,
            )

        return json_answer(await asyncio.to_thread(describe))

    async def copy(self, http: Request) -> Response:
        asked = await read(http, Copy, self.service.settings)
        try:
            await asyncio.to_thread(self.service.library.copy, asked.source, asked.destination)
        except ModelNotFound as error:
            raise ReferenceNotFound(f'model "{error.name}" not found{error.hint}') from None
        return Response()

    async def delete(self, http: Request) -> Response:
        asked = await read(http, Named, self.service.settings)
        model = await asyncio.to_thread(self.service.library.find, asked.wanted)
        await self.service.scheduler.unload(model.name)
        await asyncio.to_thread(self.service.library.remove, asked.wanted)
        return Response()

    async def _load(self, http: Request, asked: ModelBody, *, chat: bool) -> Response:
        """Load a model, or unload it, without anything to answer."""
        name = _required(asked.model)
        if asked.keep_alive == 0:
            await self.service.unload(name)
            reason = "unload"
        else:
            await unless_gone(http, self.service.load(name, asked.keep_alive, asked.options))
            reason = "load"
        empty: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
        return json_answer(
            {"model": name, "created_at": models.timestamp(time.time()), **empty, "done": True, "done_reason": reason}
        )

    async def _answer(self, http: Request, request: GenerationRequest, stream: bool) -> Response:
        _required(request.model)
        chat = request.messages is not None
        events = self.service.generate(request)
        if request.render_only or not stream:
            answer = await unless_gone(http, _collected(events))
            if request.render_only:
                images = len(request.images) + sum(len(turn.images) for turn in request.messages or ())
                rendered = {"rendered_template": answer.text, "image_count": images}
                return json_answer({"model": request.model, **_empty(chat), "_debug_info": rendered})
            return json_answer(_whole(request.model, answer, chat))
        return await streamed(http, _lines(request.model, events, chat), lambda error: _line({"error": str(error)}))


async def _collected(events: AsyncGenerator[Event, None]) -> Answer:
    async with aclosing(events):
        return await collect(events)


async def _lines(model: str, events: AsyncGenerator[Event, None], chat: bool) -> AsyncGenerator[str, None]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, FinalEvent):
                yield _line({**_head(model), **_parts(chat), **_ending(event)})
            elif isinstance(event, TextEvent):
                yield _line(
                    {**_head(model), **_parts(chat, text=event.text), "done": False, **_logprobs(event.logprobs)}
                )
            elif isinstance(event, ThinkingEvent):
                parts = _parts(chat, thinking=event.text)
                yield _line({**_head(model), **parts, "done": False, **_logprobs(event.logprobs)})
            elif isinstance(event, ToolCallEvent):
                yield _line({**_head(model), **_parts(chat, calls=(event.call,)), "done": False})


def _whole(model: str, answer: Answer, chat: bool) -> dict[str, Any]:
    parts = _parts(chat, answer.text, answer.thinking, answer.calls)
    return {**_head(model), **parts, **_ending(answer.final), **_logprobs(answer.logprobs)}


def _head(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": models.timestamp(time.time())}


def _empty(chat: bool) -> dict[str, Any]:
    return {"created_at": models.timestamp(time.time()), **_parts(chat), "done": True}


def _parts(chat: bool, text: str = "", thinking: str = "", calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
    """Return what an answer says, as the chat route or the generate route has it; nothing that is empty."""
    said: dict[str, Any] = {"content" if chat else "response": text}
    if thinking:
        said["thinking"] = thinking
    if calls:
        said["tool_calls"] = [
            {"id": call.id, "function": {"index": call.index, "name": call.name, "arguments": dict(call.arguments)}}
            for call in calls
        ]
    return {"message": {"role": "assistant", **said}} if chat else said


def _ending(final: FinalEvent) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "context": list(final.context),
        "total_duration": int(final.total_seconds * _NANO),
        "load_duration": int(final.load_seconds * _NANO),
        "prompt_eval_count": final.prompt_tokens,
        "prompt_eval_duration": int(final.prompt_seconds * _NANO),
        "eval_count": final.generated_tokens,
        "eval_duration": int(final.generation_seconds * _NANO),
    }
    return {"done": True, "done_reason": final.reason, **{name: value for name, value in metrics.items() if value}}


def _logprobs(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    def described_token(token: TokenLogprob) -> dict[str, Any]:
        shown: dict[str, Any] = {"token": token.token, "logprob": token.logprob}
        if token.bytes:
            shown["bytes"] = list(token.bytes)
        if token.top:
            shown["top_logprobs"] = [described_token(each) for each in token.top]
        return shown

    return {"logprobs": [described_token(token) for token in tokens]} if tokens else {}


def _line(value: dict[str, Any]) -> str:
    return dumps(value) + "\n"


def _required(model: str) -> str:
    if not model:
        raise InvalidInput("model is required")
    return model


@contextmanager
def _pull_first() -> Iterator[None]:
    """Word the error for a missing model as the routes for vectors do."""
    try:
        yield
    except ModelNotFound as error:
        raise ReferenceNotFound(f'model "{error.name}" not found, try pulling it first{error.hint}') from None
