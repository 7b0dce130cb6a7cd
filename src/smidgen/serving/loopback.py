"""The engine's own HTTP server, asked over the loopback: one connection for each request, read as it comes.

A general client costs half a millisecond of the processor for each token, which the engine on the same cores then
lacks; this one speaks just what llama.cpp's server does, and wakes its reader once for all that has come.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

_MOST_UNREAD = 1 << 20
"""Bytes that may lie here unread before the server is made to wait."""


@dataclass(frozen=True)
class Reply:
    """An answer whose head was read.

    Attributes:
        status: The HTTP status.
        parts: The body, piece by piece.
    """

    status: int
    parts: AsyncIterator[bytes]

    async def body(self) -> bytes:
        """Read the whole body."""
        return b"".join([part async for part in self.parts])

    async def lines(self) -> AsyncIterator[bytes]:
        """Read the body line by line, without the ends of the lines."""
        rest = b""
        async for part in self.parts:
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield line
        if rest:
            yield rest


class Loopback:
    """A client of one server on this machine.

    Args:
        address: "http://127.0.0.1:port".
        headers: What every request carries.
    """

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    @asynccontextmanager
    async def post(self, route: str, fields: Mapping[str, Any]) -> AsyncIterator[Reply]:
        """Send a JSON object; leaving the block ends the connection, whatever was read.

        Raises:
            OSError: The server cannot be reached.
            EOFError: It ended the connection too early.
        """
        loop = asyncio.get_running_loop()
        transport, arriving = await loop.create_connection(_Arriving, self._host, self._port)
        try:
            body = json.dumps(fields).encode()
            head = (
                f"POST {route} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{self._headers}\r\n"
            )
            transport.write(head.encode() + body)
            status, headers = await arriving.head()
            chunked = headers.get("transfer-encoding") == "chunked"
            yield Reply(status, arriving.chunks() if chunked else arriving.rest())
        finally:
            transport.abort()


class _Arriving(asyncio.Protocol):
    """What has come of an answer and was not read yet."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._ended: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # other event loops have classes of their own

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > _MOST_UNREAD and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = exc or EOFError("it ended the connection too early")
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _more(self) -> None:
        """Wait until more has come."""
        if self._ended is not None:
            raise self._ended
        assert self._transport is not None
        self._transport.resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the status and the headers, whose names and values are in small letters."""
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            await self._more()
        first, *lines = self._unread[:end].decode("latin-1").split("\r\n")
        del self._unread[: end + 4]
        pairs = (line.partition(":") for line in lines if line)
        return int(first.split()[1]), {name.strip().lower(): value.strip().lower() for name, _, value in pairs}

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read a body in chunks; what has come by now is one piece."""
        while True:
            whole, is_last = self._take_chunks()
            if whole:
                yield whole
            if is_last:
                return
            if not whole:
                await self._more()

    def _take_chunks(self) -> tuple[bytes, bool]:
        """Return what all chunks hold that have come whole, and whether the last was among them."""
        unread, taken, start = self._unread, bytearray(), 0
        is_last = False
        while not is_last and (line := unread.find(b"\r\n", start)) >= 0:
            size = int(unread[start:line].split(b";")[0], 16)
            is_last = size == 0
            if not is_last and len(unread) < line + 4 + size:
                break
            taken += unread[line + 2 : line + 2 + size]
            start = line + 4 + size
        del unread[:start]
        return bytes(taken), is_last

    async def rest(self) -> AsyncIterator[bytes]:
        """Read a body that ends with the connection."""
        while True:
            if self._unread:
                part = bytes(self._unread)
                self._unread.clear()
                yield part
            try:
                await self._more()
            except EOFError:
                if not self._unread:
                    return
