"""Documents to validated JSON over HTTP: POST /v1/extract."""

from __future__ import annotations

import asyncio
import base64
import binascii
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from smidgen.errors import DamagedFile, EngineFailed, InvalidInput
from smidgen.serving.dialects._openai_writing import error_body
from smidgen.serving.faults import BodyTooLarge, ModelNotFound
from smidgen.serving.wire import Body, checked, described, json_answer, read, read_body, unless_gone

if TYPE_CHECKING:
    from smidgen.documents.batch import Job, Workers
    from smidgen.errors import SmidgenError
    from smidgen.serving.service import Service

DEFAULT_MODEL = "smollm2:135m"
_JSON = "application/json"
_MOST_PAGES = 100


class Fields(Body):
    """POST /v1/extract: a document with a schema or the name of one."""

    file: str = Field(min_length=1, description="The document in base64, with or without 'data:...;base64,' before it.")
    name: str = Field(default="document", max_length=200, description="What the document is called in the answer.")
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema", description="What to look for.")
    preset: str | None = Field(
        default=None, description="A schema that comes along: invoice, receipt, id, form, chart."
    )
    model: str = Field(default=DEFAULT_MODEL, min_length=1, description="Model that chooses in doubt; none asks none.")
    pages: list[int] | None = Field(default=None, max_length=_MOST_PAGES, description="Numbers of pages, from 1.")
    pictures: bool = Field(default=False, description="Whether pages come along as JPEG in base64, to draw boxes on.")

    def content(self) -> bytes:
        """Return the document's bytes.

        Raises:
            InvalidInput: It is no base64.
        """
        text = self.file.partition(",")[2] if self.file.startswith("data:") else self.file
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput("invalid file: it is no base64") from None


class Extract:
    """The route that extracts from documents.

    A document comes in the ``file`` of a JSON object, or as the body itself with the other fields in the query:
    ``curl --data-binary @scan.pdf -H 'Content-Type: application/pdf' '.../v1/extract?preset=invoice'``.
    Schemas come as JSON or as a preset; classes of pydantic are no part of this API.
    """

    prefixes = ("/v1/extract",)

    def routes(self, service: Service) -> APIRouter:
        """Return its routes."""
        desk = _Desk(service)

        async def extract(http: Request) -> Response:
            asked, content = await _asked(http, service)
            return json_answer(await unless_gone(http, desk.answer(asked, content)))

        @asynccontextmanager
        async def life(_: object) -> AsyncIterator[None]:
            yield
            desk.close()

        router = APIRouter(lifespan=life)
        router.add_api_route("/v1/extract", extract, methods=["POST"], **described(Fields))
        return router

    def error(self, error: SmidgenError, status: int) -> dict[str, Any]:
        """Return the JSON body that says what went wrong."""
        return error_body(error, status)


async def _asked(http: Request, service: Service) -> tuple[Fields, bytes]:
    """Read a request, whichever way its document comes."""
    kind = http.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
    if kind in (_JSON, "text/json", ""):
        asked = await read(http, Fields, service.settings)
        return asked, asked.content()
    content = await read_body(http, service.settings.max_body)
    if not content:
        raise InvalidInput("missing request body")
    values: dict[str, Any] = {"file": "-", **dict(http.query_params)}
    values.pop("schema", None)
    if "pages" in values:
        parts = str(values["pages"]).split(",")
        if not all(part.strip().isdigit() for part in parts):
            raise InvalidInput("invalid pages: write them as 1,2,3")
        values["pages"] = [int(part) for part in parts]
    if "pictures" in values:
        values["pictures"] = values["pictures"].lower() in ("true", "1")
    return checked(Fields, values), content


class _Desk:
    """Takes documents to processes of their own; a document that brings one down brings down nothing else."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._one_at_a_time = asyncio.Lock()
        self._job_at_work: Job | None = None
        self._workers: Workers | None = None

    def close(self) -> None:
        """End the process that waits for the next document."""
        if self._workers is not None:
            self._workers.close()
        self._workers = self._job_at_work = None

    async def answer(self, asked: Fields, content: bytes) -> dict[str, Any]:
        if len(content) > self._service.settings.max_body:
            raise BodyTooLarge(f"the document is larger than {self._service.settings.max_body} bytes")
        job = await asyncio.to_thread(self._job, asked)
        async with self._one_at_a_time:
            try:
                return await asyncio.to_thread(self._extracted, job, content, asked)
            except asyncio.CancelledError:
                self._abandon()
                raise

    def _abandon(self) -> None:
        """End the process at work: nobody waits for its document any more."""
        if self._workers is not None:
            self._workers.kill()
        self._workers = self._job_at_work = None

    def _job(self, asked: Fields) -> Job:
        from smidgen.documents.batch import Job
        from smidgen.documents.ocr import require_installed
        from smidgen.documents.schema import preset
        from smidgen.documents.schema_reading import read_schema
        from smidgen.export import runnable
        from smidgen.inference.setup import Setup

        require_installed()
        if (asked.json_schema is None) == (asked.preset is None):
            raise InvalidInput("say what to look for: either schema or preset")
        schema = preset(str(asked.preset)) if asked.json_schema is None else asked.json_schema
        read_schema(schema)
        named, path, projector = self._model(asked.model), None, None
        if named is not None:
            local = runnable.find(named, offline=True)
            path, projector = str(runnable.path_of(local)), Setup.of(local).projector
        pages = None if asked.pages is None else tuple(asked.pages)
        seeing = None if projector is None else str(projector)
        return Job(schema, named, path, seeing, pages, None, self._service.settings.threads or 1)

    def _model(self, name: str) -> str | None:
        """Return the model to ask: only one that is here already, and none where the default one is not."""
        if name.lower() == "none":
            return None
        try:
            self._service.library.find(name)
        except ModelNotFound:
            if name == DEFAULT_MODEL:
                return None
            raise
        return name

    def _extracted(self, job: Job, content: bytes, asked: Fields) -> dict[str, Any]:
        """Extract in the process that is there, if it looks for the same; it has read the schema and loaded the OCR."""
        from smidgen.documents.batch import Workers, failure

        workers = self._workers
        if workers is None or job != self._job_at_work:
            self.close()
            workers = Workers(job, 1)
            self._workers, self._job_at_work = workers, job
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "document"
            path.write_bytes(content)
            found = workers.extract(path, asked.name, pictures=asked.pictures)
        if "failed" not in found:
            extraction: dict[str, Any] = found["extraction"]
            return extraction
        error = failure(found["failed"])
        if isinstance(error, DamagedFile | EngineFailed):  # the client sent it
            raise InvalidInput(error.message, remedy=error.remedy)
        raise error
