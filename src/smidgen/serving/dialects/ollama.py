"""Ollama's own API, below /api."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from smidgen.serving.wire import json_answer

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError
    from smidgen.serving.service import Service


class Ollama:
    """The routes that Ollama's clients ask for."""

    prefixes = ("/",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""
        router = APIRouter()
        for path, answer in (("/", _running), ("/api/version", _version)):
            router.add_api_route(path, answer, methods=["GET", "HEAD"], response_model=None)
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return {"error": str(error)}


async def _running(http: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(http: Request) -> Response:
    import smidgen

    return json_answer({"version": smidgen.__version__})
