"""What dialects share whose streams are named events: a writer makes them, and the whole answer beside them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from smidgen.serving.exchange import Event
from smidgen.serving.wire import dumps


def named_event_text(value: Mapping[str, Any]) -> str:
    """Write one server-sent event that bears its type's name."""
    return f"event: {value['type']}\ndata: {dumps(value)}\n\n"


class Writer(Protocol):
    """Turns the events of an answer into a dialect's own."""

    def begin(self) -> Iterable[dict[str, Any]]:
        """Return what stands before the answer."""
        ...

    def take(self, event: Event) -> Iterable[dict[str, Any]]:
        """Return what an event becomes, and remember it for the whole answer."""
        ...


async def taken(writer: Writer, events: AsyncGenerator[Event, None]) -> None:
    """Let a writer take all events, for the whole answer."""
    async with aclosing(events):
        async for event in events:
            for _ in writer.take(event):
                pass


async def written(writer: Writer, events: AsyncGenerator[Event, None]) -> AsyncGenerator[str, None]:
    """Write events as they come; the beginning only once there is a first, so that an early error has its status."""
    begun = False
    async with aclosing(events):
        async for event in events:
            made = [*([] if begun else writer.begin()), *writer.take(event)]
            begun = True
            yield "".join(named_event_text(each) for each in made)
