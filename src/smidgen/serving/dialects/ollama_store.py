"""What writes models into the store over Ollama's API: create, pull, push and blobs."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from smidgen.errors import InvalidInput
from smidgen.models import sources
from smidgen.models.files import make_folder
from smidgen.models.oci import LayerEvent
from smidgen.models.sources.ollama_registry import push
from smidgen.models.store import Store
from smidgen.models.uploads import Receiving, Uploads
from smidgen.progress import Event, Progress
from smidgen.recipe.create import create
from smidgen.serving.dialects._ollama_create import Create, require_name
from smidgen.serving.faults import ClientGone
from smidgen.serving.service import Service
from smidgen.serving.wire import Body, described, dumps, json_answer, pieces_of, read, streamed, unless_gone

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError

_PAUSE = 0.06
"""Least seconds between two reports about the same thing."""

Work = Callable[[Progress], object]


class Transfer(Body):
    """POST /api/pull and /api/push."""

    model: str = ""
    name: str = ""
    insecure: bool = False
    stream: bool = True

    def named(self) -> str:
        """Return the model's name.

        Raises:
            InvalidInput: There is none.
        """
        if not (self.model or self.name):
            raise InvalidInput("model is required")
        return self.model or self.name


class OllamaStore:
    """The routes that write into the store."""

    prefixes = ("/api/create", "/api/pull", "/api/push", "/api/blobs")

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""
        api = _Api(service)
        router = APIRouter()
        bodies: dict[str, tuple[Any, type[Body]]] = {
            "create": (api.create, Create),
            "pull": (api.pull, Transfer),
            "push": (api.push, Transfer),
        }
        for name, (answer, body) in bodies.items():
            router.add_api_route(f"/api/{name}", answer, methods=["POST"], **described(body))
        router.add_api_route("/api/blobs/{digest}", api.has_blob, methods=["HEAD"], response_model=None)
        router.add_api_route("/api/blobs/{digest}", api.take_blob, methods=["POST"], response_model=None)
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return {"error": str(error)}


class _Api:
    """The routes' work."""

    def __init__(self, service: Service) -> None:
        self.service = service

    @property
    def _store(self) -> Store:
        return self.service.library.store

    async def create(self, http: Request) -> Response:
        asked = await read(http, Create, self.service.settings)
        store = self._store

        def work(progress: Progress) -> None:
            with tempfile.TemporaryDirectory(dir=make_folder(store.root), prefix=".tmp-create-") as staging:
                create(asked.creation(store, Path(staging)), store, progress=progress)
            for digest in asked.digests():
                Uploads(store).forget(digest)

        return await self._answer(http, work, asked.stream)

    async def pull(self, http: Request) -> Response:
        asked = await read(http, Transfer, self.service.settings)
        name, store = asked.named(), self._store

        def work(progress: Progress) -> None:
            progress(Event("pulling manifest"))
            sources.pull(require_name(name, store), store, insecure=asked.insecure, progress=progress)

        return await self._answer(http, work, asked.stream)

    async def push(self, http: Request) -> Response:
        asked = await read(http, Transfer, self.service.settings)
        name, store = asked.named(), self._store

        def work(progress: Progress) -> None:
            progress(Event("retrieving manifest"))
            push(name, store, insecure=asked.insecure, progress=progress)

        return await self._answer(http, work, asked.stream)

    async def has_blob(self, digest: str) -> Response:
        return Response(status_code=200 if Uploads(self._store).find(digest) else 404)

    async def take_blob(self, http: Request, digest: str) -> Response:
        uploads = Uploads(self._store)
        if uploads.find(digest) is not None:
            return Response(status_code=200)
        declared = http.headers.get("content-length", "")
        with Receiving(uploads, digest, int(declared) if declared.isdigit() else 0) as receiving:
            async for block in pieces_of(http):
                await asyncio.to_thread(receiving.write, block)
            await asyncio.to_thread(receiving.finish)
        return Response(status_code=201)

    async def _answer(self, http: Request, work: Work, stream: bool) -> Response:
        lines = _lines(work)
        if stream:
            return await streamed(http, _written(lines), _broken)
        return await unless_gone(http, _last(lines))


async def _written(lines: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[str, None]:
    async with aclosing(lines):
        async for line in lines:
            yield f"{dumps(line)}\n"


async def _last(lines: AsyncGenerator[dict[str, Any], None]) -> Response:
    last: dict[str, Any] = {}
    async for line in lines:
        last = line
    return json_answer(last)


def _broken(error: SmidgenError) -> str:
    return f"{dumps({'error': str(error)})}\n"


async def _lines(work: Work) -> AsyncGenerator[dict[str, Any], None]:
    """Do the work in a thread and yield what it reports, at last that it is done; closed early, the work stops."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    reporter = _Reporter(lambda line: loop.call_soon_threadsafe(waiting.put_nowait, line))
    task = asyncio.ensure_future(asyncio.to_thread(work, reporter))
    task.add_done_callback(lambda _: waiting.put_nowait(None))
    try:
        while (line := await waiting.get()) is not None:
            yield line
        await task
        yield {"status": "success"}
    finally:
        reporter.stopped = True
        if not task.done():
            task.add_done_callback(lambda done: done.cancelled() or done.exception())


class _Reporter:
    """Turns reports of progress into lines, not more of them than can be read."""

    def __init__(self, send: Callable[[dict[str, Any]], object]) -> None:
        self.stopped = False
        self._send = send
        self._last: dict[str, Any] = {}
        self._sent = 0.0

    def __call__(self, event: Event) -> None:
        if self.stopped:
            raise ClientGone
        line: dict[str, Any] = {"status": event.stage}
        if isinstance(event, LayerEvent):
            line["digest"] = event.digest
        if event.unit == "bytes" and event.total:
            line |= {"total": int(event.total)} | ({"completed": int(event.done)} if event.done else {})
        moves = line["status"] == self._last.get("status") and event.done != event.total
        now = time.monotonic()
        if line == self._last or (moves and now - self._sent < _PAUSE):
            return
        self._last, self._sent = line, now
        self._send(line)
