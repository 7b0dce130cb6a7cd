"""Several answers to one request, written side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")
_Item = tuple[int, T] | BaseException | None


async def merged(streams: Sequence[AsyncGenerator[T, None]], most_at_once: int) -> AsyncGenerator[tuple[int, T], None]:
    """Give the parts of several streams as they come, each with its stream's number.

    The first error of any of them ends all. Closing this closes all.

    Args:
        streams: The streams.
        most_at_once: How many run at the same time; the others wait for them.
    """
    found: asyncio.Queue[_Item[T]] = asyncio.Queue()
    room = asyncio.Semaphore(most_at_once)

    async def pour(number: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async with room, aclosing(stream):
                async for part in stream:
                    found.put_nowait((number, part))
            found.put_nowait(None)
        except Exception as error:
            found.put_nowait(error)

    tasks = [asyncio.ensure_future(pour(number, stream)) for number, stream in enumerate(streams)]
    left = len(tasks)
    try:
        while left:
            item = await found.get()
            if item is None:
                left -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def gathered(works: Sequence[Coroutine[Any, Any, T]], most_at_once: int) -> list[T]:
    """Return what several works make, in their order. The first error of any of them ends all.

    Args:
        works: The works.
        most_at_once: How many run at the same time; the others wait for them.
    """
    room = asyncio.Semaphore(most_at_once)

    async def do(work: Coroutine[Any, Any, T]) -> T:
        async with room:
            return await work

    tasks = [asyncio.ensure_future(do(work)) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for work in works:
            work.close()
