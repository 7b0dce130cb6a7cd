"""OpenAI's responses, below /v1/responses. Nothing is kept: every request brings its whole conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from smidgen.serving.dialects import _responses_fields as fields
from smidgen.serving.dialects._named_events import named_event_text, taken, written
from smidgen.serving.dialects._openai_writing import error_body
from smidgen.serving.dialects._responses_writing import ResponseWriter
from smidgen.serving.service import Service
from smidgen.serving.wire import EVENT_STREAM, described, json_answer, read, streamed, unless_gone

if TYPE_CHECKING:
    from smidgen.errors import SmidgenError


class Responses:
    """The route of OpenAI's newer clients."""

    prefixes = ("/v1/responses",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""

        async def respond(http: Request) -> Response:
            asked = await read(http, fields.Responses, service.settings)
            writer = ResponseWriter(asked)
            events = service.generate(asked.request())
            if not asked.stream:
                await unless_gone(http, taken(writer, events))
                return json_answer(writer.response())
            return await streamed(
                http, written(writer, events), lambda error: named_event_text(writer.fail(error)), EVENT_STREAM
            )

        router = APIRouter()
        router.add_api_route("/v1/responses", respond, methods=["POST"], **described(fields.Responses))
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return error_body(error, status)
