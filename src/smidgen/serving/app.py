"""The web application: every dialect's routes, and errors worded as the dialect of the path words them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from smidgen import registry
from smidgen.errors import EngineFailed, SmidgenError
from smidgen.serving.dialects import DIALECTS, Dialect
from smidgen.serving.faults import status_of
from smidgen.serving.service import Service
from smidgen.serving.settings import ServingSettings
from smidgen.serving.wire import json_answer

log = logging.getLogger("smidgen.serving")


def create(settings: ServingSettings | None = None, service: Service | None = None) -> FastAPI:
    """Build the application.

    Args:
        settings: The server's bounds; those of the environment where None.
        service: The models; those of the default store where None.
    """
    import smidgen

    settings = settings or ServingSettings.from_environment()
    service = service or Service(settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(title="smidgen", version=smidgen.__version__, lifespan=life, docs_url=None, redoc_url=None)
    dialects: dict[str, Dialect] = {}
    for name in registry.names(DIALECTS):
        dialect: Dialect = registry.find(DIALECTS, name)()
        app.include_router(dialect.routes(service))
        dialects |= dict.fromkeys(dialect.prefixes, dialect)
    app.state.service = service
    _handle_errors(app, dialects)
    return app


def _handle_errors(app: FastAPI, dialects: dict[str, Dialect]) -> None:
    def answer(http: Request, error: SmidgenError) -> Response:
        fitting = [prefix for prefix in dialects if http.url.path.startswith(prefix)]
        dialect = dialects[max(fitting, key=len)] if fitting else dialects["/"]
        status = status_of(error)
        return json_answer(dialect.error(error, status), status)

    @app.exception_handler(SmidgenError)
    async def for_a_person(http: Request, error: SmidgenError) -> Response:
        return answer(http, error)

    @app.exception_handler(HTTPException)
    async def of_the_router(http: Request, error: HTTPException) -> Response:
        plain = {404: "404 page not found", 405: "405 method not allowed"}
        return PlainTextResponse(plain.get(error.status_code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def of_smidgen(http: Request, error: Exception) -> Response:
        log.exception("a request failed", exc_info=error)
        return answer(http, EngineFailed(f"internal fault: {type(error).__name__}"))
