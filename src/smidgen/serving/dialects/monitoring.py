"""What watches a server: whether it is well, and its figures for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from smidgen.serving.wire import json_answer

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError
    from smidgen.serving.service import Service

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Monitoring:
    """The routes /health and /metrics."""

    prefixes = ("/health", "/metrics")

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""

        async def health(http: Request) -> Response:
            return json_answer({"status": "ok"})

        async def metrics(http: Request) -> Response:
            return Response(service.meters.text(), media_type=_PROMETHEUS)

        router = APIRouter()
        router.add_api_route("/health", health, methods=["GET", "HEAD"], response_model=None)
        router.add_api_route("/metrics", metrics, methods=["GET"], response_model=None)
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return {"error": str(error)}
