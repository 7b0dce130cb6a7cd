"""The client for the engine's own server, against small servers that answer byte by byte as told."""

from __future__ import annotations

import asyncio

import pytest

from smidgen.serving.loopback import Loopback

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def ask(answer: bytes) -> tuple[int, list[bytes], bytes]:
    """Return the status, the body's lines and what the server got."""

    async def run() -> tuple[int, list[bytes], bytes]:
        got = b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal got
            got = await reader.readuntil(b'{"a": 1}')
            for start in range(0, len(answer), 7):
                writer.write(answer[start : start + 7])
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            client = Loopback(f"http://127.0.0.1:{port}", {"Authorization": "Bearer k"})
            async with client.post("/completion", {"a": 1}) as reply:
                return reply.status, [line async for line in reply.lines()], got

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_chunks_become_lines_wherever_they_are_cut() -> None:
    status, lines, got = ask(CHUNKED + b"5\r\nab\ncd\r\n3;x=y\r\ne\nf\r\n0\r\n\r\n")
    assert (status, lines) == (200, [b"ab", b"cde", b"f"])
    assert got.startswith(b"POST /completion HTTP/1.1\r\n")
    assert b"Authorization: Bearer k\r\n" in got and b"Content-Length: 8\r\n" in got


def test_a_plain_body_ends_with_the_connection() -> None:
    assert ask(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\na\nb")[:2] == (400, [b"a", b"b"])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", CHUNKED, CHUNKED + b"5\r\nab", CHUNKED + b"2\r\nab\r\n"])
def test_a_connection_that_ends_too_early_is_an_error(answer: bytes) -> None:
    with pytest.raises((EOFError, OSError)):
        ask(answer)
