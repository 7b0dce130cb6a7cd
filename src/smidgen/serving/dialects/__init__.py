'''The dialects that a server speaks, one file each, found by file name.

How one is added: write ``serving/dialects/<name>.py`` with one public class of that name in CamelCase that has
what `Dialect` asks for. Nothing else is touched: `smidgen.serving.app.create` finds the file through
`smidgen.registry`, adds its routes and lets it word the errors below its prefixes. A dialect

1. describes a request's JSON as a pydantic model and reads it with `smidgen.serving.wire.read`, which bounds its
   size and refuses what is no JSON or has other types (`smidgen.serving.wire.described` puts the model into the
   OpenAPI schema),
2. builds a `smidgen.serving.exchange.GenerationRequest` (or an `EmbeddingRequest`) of it,
3. takes the events of ``service.generate(request)`` and writes them: as they come with
   `smidgen.serving.wire.streamed`, or all together with `smidgen.serving.wire.unless_gone`; both stop the work when
   the client leaves,
4. lets every `SmidgenError` fly: the application answers with its status (`smidgen.serving.faults.status_of`) and
   the body that the dialect's ``error`` returns. Once a stream has begun the status is sent, and `streamed` writes
   what its argument ``broken`` makes of the error, and ends.

    class Parrot:
        """Says what the model says."""

        prefixes = ("/parrot",)

        def routes(self, service):
            async def speak(http: Request):
                asked = await read(http, Speech, service.settings)
                request = GenerationRequest(model=asked.model, prompt=asked.text)
                answer = await unless_gone(http, collect(service.generate(request)))
                return json_answer({"said": answer.text})

            router = APIRouter()
            router.add_api_route("/parrot/speak", speak, methods=["POST"], **described(Speech))
            return router

        def error(self, error, status):
            return {"error": str(error)}
'''

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fastapi import APIRouter

    from smidgen.errors import SmidgenError
    from smidgen.serving.service import Service

DIALECTS = "smidgen.serving.dialects"
"""The folder of the dialects, for `smidgen.registry`."""


class Dialect(Protocol):
    """One API's routes and its way of wording errors. Its class takes no arguments.

    Attributes:
        prefixes: Beginnings of the paths whose errors it words; the longest that fits counts.
    """

    prefixes: Sequence[str]

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""
        ...

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        ...
