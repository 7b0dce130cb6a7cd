"""HTTP as all dialects use it: bounded bodies, answers as JSON or streams, work that ends when the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic
from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from smidgen.errors import EngineFailed, InvalidInput, SmidgenError
from smidgen.serving.faults import BodiesFull, BodyTooLarge, ClientGone

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from smidgen.serving.settings import ServingSettings

_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

T = TypeVar("T")
Fields = TypeVar("Fields", bound="Body")

NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"


class Body(pydantic.BaseModel):
    """A request's JSON object: unknown fields are ignored, null is as if the field were not there."""

    model_config = pydantic.ConfigDict(extra="ignore", strict=True, frozen=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values


class Holdings:
    """Counts the bytes of the bodies that the server keeps, until their requests are answered.

    Args:
        limit: Bytes of all bodies together.
    """

    KEY = "smidgen.held"
    """Where a request's scope has its share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0

    @contextmanager
    def share(self, scope: Scope) -> Iterator[None]:
        """Let a request keep bytes until the block ends."""
        own = scope[self.KEY] = _Share(self)
        try:
            yield
        finally:
            self.bytes -= own.bytes


class _Share:
    """What one request keeps."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self.bytes = 0

    def add(self, size: int) -> None:
        self.bytes += size
        self.holdings.bytes += size
        if self.holdings.bytes > self.holdings.limit:
            raise BodiesFull(self.holdings.limit)


async def read_body(http: Request, limit: int) -> bytes:
    """Read a request's whole body, which counts as kept until the request is answered.

    Raises:
        BodyTooLarge: It is longer than the limit; the rest is not read.
        BodiesFull: Together with those of other requests it is more than the server keeps.
        ClientGone: The client left before its end.
    """
    share: _Share = http.scope[Holdings.KEY]
    limit = min(limit, share.holdings.limit)
    parts, size = [], 0
    declared = http.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(f"the request body is larger than {limit} bytes")
    async for part in pieces_of(http):
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the request body is larger than {limit} bytes")
        share.add(len(part))
        parts.append(part)
    return b"".join(parts)


async def pieces_of(http: Request) -> AsyncIterator[bytes]:
    """Give a request's body as it comes.

    Raises:
        ClientGone: The client left before its end.
    """
    try:
        async for part in http.stream():
            yield part
    except ClientDisconnect:
        raise ClientGone from None


async def read(http: Request, kind: type[Fields], settings: ServingSettings) -> Fields:
    """Read a request's JSON, whatever content type it says it has.

    Raises:
        BodyTooLarge: It is longer than the server takes.
        InvalidInput: There is none, it is no JSON, or a field has another type.
    """
    body = await read_body(http, settings.max_body)
    if not body.strip():
        raise InvalidInput("missing request body")
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(f"invalid JSON: {error}") from None
    if not isinstance(values, dict):
        raise InvalidInput("invalid JSON: expected an object")
    return checked(kind, values)


def checked(kind: type[Fields], values: dict[str, Any]) -> Fields:
    """Check the types of a request's fields.

    Raises:
        InvalidInput: A field has another type; the message names the first such field.
    """
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(f"invalid field {place!r}: {message}" if place else message) from None
    except RecursionError:
        raise InvalidInput("invalid JSON: it is nested too deeply") from None


@cache
def described(kind: type[Body]) -> dict[str, Any]:
    """Return what `fastapi.APIRouter.add_api_route` needs to show a request's fields in the OpenAPI schema."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schema = _inlined(schema, schema.pop("$defs", {}))
    content = {"application/json": {"schema": schema}}
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}, "response_model": None}


def _inlined(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            return _inlined(definitions[reference.rpartition("/")[2]], definitions)
        return {key: _inlined(part, definitions) for key, part in value.items()}
    return [_inlined(part, definitions) for part in value] if isinstance(value, list) else value


def dumps(value: Any) -> str:
    r"""Write JSON in its shortest form.

    Example:
        >>> dumps({"text": "é\ud800", "n": [1, 2]})
        '{"text":"é�","n":[1,2]}'
    """
    text = _ENCODE(value)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _has_surrogates(text) else text


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def json_answer(value: Any, status: int = 200) -> Response:
    """Answer with one JSON value."""
    return Response(dumps(value), status, media_type="application/json; charset=utf-8")


async def unless_gone(http: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the work's result; cancel it as soon as the client leaves.

    Raises:
        ClientGone: The client left before.
    """
    async with _watched(http.receive) as gone:
        task: asyncio.Future[Any] = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientGone
            result: T = task.result()
            return result
        finally:
            await _end(task)


async def streamed(
    http: Request,
    parts: AsyncGenerator[str, None],
    broken: Callable[[SmidgenError], str],
    media_type: str = NDJSON,
) -> Response:
    """Answer with a stream that begins with its first part: an error before it has its own HTTP status.

    Args:
        http: The request; its body has been read.
        parts: The stream's parts, each sent at once. Closed when the client leaves.
        broken: What to send, as the last part, for an error that comes after the first part.
        media_type: The stream's content type.
    """
    try:
        first = await unless_gone(http, _next(parts))
    except BaseException:
        await parts.aclose()
        raise
    return _Streamed(_guarded(first, parts, broken), media_type=media_type)


async def _next(parts: AsyncGenerator[str, None]) -> str:
    return await anext(parts, "")


async def _guarded(
    first: str, parts: AsyncGenerator[str, None], broken: Callable[[SmidgenError], str]
) -> AsyncIterator[str]:
    async with aclosing(parts):
        try:
            yield first
            async for part in parts:
                yield part
        except SmidgenError as error:
            yield broken(error)
        except Exception as error:
            import logging

            logging.getLogger("smidgen.serving").exception("an answer broke off")
            yield broken(EngineFailed(f"internal fault: {type(error).__name__}"))


class _Streamed(StreamingResponse):
    """A stream that is closed as soon as the client leaves, whatever version of ASGI the server speaks."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with _watched(receive) as gone:
            task = asyncio.ensure_future(self.stream_response(send))
            try:
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    with suppress(OSError):  # the client left while it was sent something
                        task.result()
            finally:
                await _end(task)
                close = getattr(self.body_iterator, "aclose", None)
                if close is not None:
                    await close()


@asynccontextmanager
async def _watched(receive: Receive) -> AsyncIterator[asyncio.Future[None]]:
    """Yield a future that is done when the client has left."""

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(leave())
    try:
        yield gone
    finally:
        await _end(gone)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has ended."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
