"""Ready-made jobs, below /v1/tasks: the same as ``smidgen task`` and `smidgen.tasks`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from smidgen import tasks
from smidgen.errors import InvalidInput
from smidgen.serving.dialects._openai_writing import error_body
from smidgen.serving.faults import BodyTooLarge, status_of
from smidgen.serving.service import Service
from smidgen.serving.task_model import TaskModel
from smidgen.serving.wire import Body, described, dumps, json_answer, read, streamed, unless_gone
from smidgen.tasks import profile
from smidgen.tasks.task import Task, Working, kind_of

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError


class Fields(Body):
    """POST /v1/tasks/NAME."""

    text: str | list[str] = ""
    model: str | None = Field(default=None, min_length=1)
    stream: bool = False
    options: dict[str, Any] = Field(default_factory=dict)

    def texts(self) -> list[str]:
        """Return the texts."""
        return [self.text] if isinstance(self.text, str) else list(self.text)


class Tasks:
    """The routes of the ready-made jobs."""

    prefixes = ("/v1/tasks",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""

        async def known(http: Request) -> Response:
            return json_answer({"object": "list", "data": [described_task(name) for name in tasks.names()]})

        async def perform(http: Request) -> Response:
            asked = await read(http, Fields, service.settings)
            name = str(http.path_params["name"])
            task, model = await asyncio.to_thread(_prepared, service, name, asked, asyncio.get_running_loop())
            job = _Job(task, model)
            if asked.stream:
                pieces = job.streamed(asked.texts()[0])
                return await streamed(http, pieces, lambda error: f"{dumps(error_body(error, status_of(error)))}\n")
            results = await unless_gone(http, job.results(asked.texts()))
            facts = {"object": "task", "task": name, "model": model.name}
            one = isinstance(asked.text, str)
            return json_answer({**facts, **({"result": results[0]} if one else {"results": results})})

        router = APIRouter()
        router.add_api_route("/v1/tasks", known, methods=["GET"], response_model=None)
        router.add_api_route("/v1/tasks/{name}", perform, methods=["POST"], **described(Fields))
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return error_body(error, status)


def described_task(name: str) -> dict[str, Any]:
    """Say what a task is and which options it takes over HTTP."""
    kind = tasks.find(name)
    options = {
        field.name: {"type": kind_of(field), "default": field.default}
        for field in dataclasses.fields(kind)
        if kind_of(field) is not None and field.name not in kind.local_fields
    }
    return {"id": name, "object": "task", "about": (kind.__doc__ or "").partition("\n")[0], "options": options}


def _prepared(service: Service, name: str, asked: Fields, loop: asyncio.AbstractEventLoop) -> tuple[Task, TaskModel]:
    """Check everything that needs no loaded model."""
    kind = tasks.find(name)
    refused = next((option for option in asked.options if option in kind.local_fields), None)
    if refused is not None:
        raise InvalidInput(f"the option {refused!r} is not taken over HTTP")
    if "calibration" in asked.options:
        raise InvalidInput("a calibration comes with the model")
    task = tasks.build(name, asked.options)
    if isinstance(asked.text, list):
        if len(asked.text) > service.settings.max_texts:
            raise BodyTooLarge(f"at most {service.settings.max_texts} texts are taken at once")
        if not asked.text or asked.stream:
            raise InvalidInput("several texts are not streamed" if asked.text else "there is no text")
    model = service.library.find(asked.model or profile.default_model(name, task))
    return profile.applied(name, task, model.facts), TaskModel(service, model, loop)


class _Job:
    """A task at work in a thread of its own."""

    def __init__(self, task: Task, model: TaskModel) -> None:
        self._task, self._model = task, model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="smidgen-task")

    async def results(self, texts: list[str]) -> list[dict[str, Any]]:
        """Return the result for each text."""
        try:
            found: list[dict[str, Any]] = await self._run(self._task.many, texts, self._model)
            return found
        finally:
            self._end()

    async def streamed(self, text: str) -> AsyncGenerator[str, None]:
        """Write each piece as a line of JSON, the result last."""
        working = self._task.run(text, self._model)
        result: dict[str, Any] = {}
        try:
            while (piece := await self._run(_next, working, result)) is not None:
                yield f"{dumps({'text': piece})}\n"
            yield f"{dumps({'result': result})}\n"
        finally:
            self._end()

    async def _run(self, work: Any, *values: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *values)

    def _end(self) -> None:
        self._model.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _next(working: Working, result: dict[str, Any]) -> str | None:
    """Return the next piece; None at the end, the result then filled in."""
    try:
        return next(working)
    except StopIteration as end:
        result.update(end.value)
        return None
