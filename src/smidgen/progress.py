"""How long work tells where it is, and how it is stopped.

Every long function takes ``progress``, a callable that receives `Event`s. Raising from it cancels the work
cleanly: the exception travels up through the function that reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Event:
    """One report of progress.

    Attributes:
        stage: What is being done, in words for a person ("reading statistics").
        done: Units finished so far.
        total: Units in all, None where unknown.
        unit: Name of the unit ("tokens", "bytes", "layers").
        note: A short running figure ("loss 0.21").
    """

    stage: str
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    note: str = ""


Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Report nowhere."""


def track(
    items: Iterable[Item], stage: str, progress: Progress, *, unit: str = "", total: int | None = None
) -> Iterator[Item]:
    """Yield the items, reporting after each.

    Example:
        >>> seen = []
        >>> list(track("ab", "spelling", lambda event: seen.append(event.done)))
        ['a', 'b']
        >>> seen
        [0, 1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    progress(Event(stage, 0, total, unit))
    for number, item in enumerate(items, 1):
        yield item
        progress(Event(stage, number, total, unit))
