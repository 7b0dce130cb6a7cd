"""The web application: every dialect's routes, and errors worded as the dialect of the path words them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from smidgen import registry
from smidgen.errors import EngineFailed, SmidgenError
from smidgen.serving.dialects import DIALECTS, Dialect
from smidgen.serving.faults import status_of
from smidgen.serving.security import Guard
from smidgen.serving.service import Service
from smidgen.serving.settings import ServingSettings
from smidgen.serving.wire import json_answer

_PLAIN = {404: "404 page not found", 405: "405 method not allowed"}

_LONGEST_MESSAGE = 2000

log = logging.getLogger("smidgen.serving")


def create(settings: ServingSettings | None = None, service: Service | None = None) -> FastAPI:
    """Build the application.

    Args:
        settings: The server's bounds; those of the environment where None.
        service: The models; those of the default store where None.
    """
    import smidgen

    settings = settings or ServingSettings.from_environment()
    running = service or Service(settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await running.close()

    app = FastAPI(
        title="smidgen",
        version=smidgen.__version__,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    dialects: dict[str, Dialect] = {}
    for name in registry.names(DIALECTS):
        dialect: Dialect = registry.find(DIALECTS, name)()
        app.include_router(dialect.routes(running))
        dialects |= dict.fromkeys(dialect.prefixes, dialect)
    app.state.service = running
    refuse = _wording(dialects)
    app.add_middleware(Guard, settings=settings, refuse=refuse, count=running.meters.asked)
    _handle_errors(app, refuse)
    return app


def _wording(dialects: dict[str, Dialect]) -> Callable[[str, SmidgenError], Response]:
    def refuse(path: str, error: SmidgenError) -> Response:
        error.message = error.message[:_LONGEST_MESSAGE]  # many name what the client sent
        fitting = max((prefix for prefix in dialects if path.startswith(prefix)), key=len, default="/")
        status = status_of(error)
        return json_answer(dialects[fitting].error(error, status), status)

    return refuse


def _handle_errors(app: FastAPI, refuse: Callable[[str, SmidgenError], Response]) -> None:
    @app.exception_handler(SmidgenError)
    async def for_a_person(http: Request, error: SmidgenError) -> Response:
        return refuse(http.url.path, error)

    @app.exception_handler(HTTPException)
    async def of_the_router(http: Request, error: HTTPException) -> Response:
        return PlainTextResponse(_PLAIN.get(error.status_code, error.detail), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def of_smidgen(http: Request, error: Exception) -> Response:
        log.exception("a request failed", exc_info=error)
        return refuse(http.url.path, EngineFailed(f"internal fault: {type(error).__name__}"))
