"""The engine's own HTTP server, asked over the loopback: one connection for each request, read as it comes.

A general client costs half a millisecond of the processor for each token, which the engine on the same cores then
lacks; this one speaks just what llama.cpp's server does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


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
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            body = json.dumps(fields).encode()
            head = (
                f"POST {route} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{self._headers}\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
            status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
            yield Reply(status, _chunks(reader) if headers.get("transfer-encoding") == "chunked" else _rest(reader))
        finally:
            writer.transport.abort()


def _head(text: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = text.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split()[1]), {name.strip().lower(): value.strip().lower() for name, _, value in pairs}


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield (await reader.readexactly(size + 2))[:-2]


async def _rest(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while part := await reader.read(1 << 16):
        yield part
