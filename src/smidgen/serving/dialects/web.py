"""The web page for documents and the files of all pages; the first is at "/", which Ollama's clients ask for too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from smidgen.serving import web

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError
    from smidgen.serving.service import Service


class Web:
    """The routes below /web, and the page for documents."""

    prefixes = (web.PREFIX, web.EXTRACT)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""

        async def asset(http: Request) -> Response:
            found = web.assets().get(http.path_params["name"])
            if found is None:
                raise HTTPException(404)
            return web.answer(http, found)

        async def extract(http: Request) -> Response:
            return web.answer(http, web.assets()[web.EXTRACT_PAGE])

        router = APIRouter(include_in_schema=False)
        router.add_api_route(f"{web.PREFIX}{{name:path}}", asset, methods=["GET", "HEAD"], response_model=None)
        router.add_api_route(web.EXTRACT, extract, methods=["GET", "HEAD"], response_model=None)
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return {"error": str(error)}
