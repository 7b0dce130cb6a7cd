"""What a person sees: results on stdout; progress, notes, warnings and errors on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from smidgen.errors import RecipeError, SmidgenError
from smidgen.progress import Event, Progress, silent
from smidgen.recipe.quantities import format_duration, format_size

if TYPE_CHECKING:
    from rich.console import Console

_HEARTBEAT = 30.0
_NO_WRAPPING = 10_000


@dataclass(frozen=True)
class Screen:
    """Where a command shows things.

    Attributes:
        json: The result is wanted as JSON.
        quiet: No progress and no notes are wanted.
    """

    json: bool = False
    quiet: bool = False

    def say(self, message: str) -> None:
        """Show a note on stderr, unless quiet."""
        if not self.quiet:
            _print(sys.stderr, ("", message))

    def warn(self, message: str) -> None:
        """Show a warning on stderr."""
        _print(sys.stderr, ("bold yellow", "warning: "), ("", message))

    def result(self, data: Mapping[str, Any], show: Callable[[], None]) -> None:
        """Print a command's result on stdout: the data as JSON where that is wanted, else what ``show`` prints."""
        if self.json:
            print_json(data)
        else:
            show()

    def text(self, message: str) -> None:
        """Print a piece of the result for a person on stdout."""
        _print(sys.stdout, ("", message))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
        """Print a table on stdout; columns of which every cell begins with a digit are set to the right."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        cells = [[str(cell) for cell in row] for row in rows]
        table = Table(title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(columns):
            numeric = bool(cells) and all(row[index][:1].isdigit() for row in cells)
            table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        _console(sys.stdout).print(table)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show progress on stderr while the block runs; yields the callable that long work reports to.

        A terminal gets one bar per stage; elsewhere every stage ends in one line, and a stage that takes long
        says every half minute where it is.
        """
        if self.quiet:
            yield silent
        elif sys.stderr.isatty():
            with _bars(_console(sys.stderr)) as report:
                yield report
        else:
            lines = _Lines()
            try:
                yield lines
            finally:
                lines.end()


def print_json(data: Mapping[str, Any]) -> None:
    """Print data as JSON on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False, default=str) + "\n")


def show_error(error: SmidgenError, *, as_json: bool = False) -> None:
    """Show an error: one clear message on stderr with the remedy on its own line, or as JSON on stdout."""
    if as_json:
        described = {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}
        problems = {"problems": error.problems} if isinstance(error, RecipeError) else {}
        print_json({"error": {**described, "exit_code": error.exit_code, **problems}})
        return
    remedy = [("", f"\n{error.remedy}")] if error.remedy else []
    _print(sys.stderr, ("bold red", "error: "), ("", error.message), *remedy)


def describe_count(event: Event) -> str:
    """Say how far a stage is, in its own unit.

    Example:
        >>> describe_count(Event("reading", 12, 48, "layers"))
        '12 of 48 layers'
        >>> describe_count(Event("downloading", 5_000_000, 98_362_432, "bytes"))
        '5.0 MB of 98.4 MB'
    """
    if event.unit == "bytes":
        done, total, unit = format_size(event.done), None if event.total is None else format_size(event.total), ""
    else:
        done, total, unit = f"{event.done:,.0f}", None if event.total is None else f"{event.total:,.0f}", event.unit
    counted = done if total is None or total == done else f"{done} of {total}"
    return f"{counted} {unit}".strip()


def describe_rate(event: Event, seconds: float) -> str:
    """Say how fast a stage goes, nothing where it has not begun or counts nothing.

    Example:
        >>> describe_rate(Event("healing", 3000, None, "tokens"), 2.0)
        '1,500 tokens/s'
    """
    if seconds <= 0 or event.done <= 0 or not event.unit:
        return ""
    rate = event.done / seconds
    if event.unit == "bytes":
        return f"{format_size(rate)}/s"
    return f"{rate:,.0f} {event.unit}/s" if rate >= 10 else f"{rate:.2g} {event.unit}/s"


class _Lines:
    """Progress where no terminal is: a line when a stage ends, and one every half minute while it runs."""

    def __init__(self) -> None:
        self._last: Event | None = None
        self._began = self._spoke = 0.0

    def __call__(self, event: Event) -> None:
        if self._last is not None and (self._last.stage != event.stage or event.done < self._last.done):
            self.end()
        now = time.monotonic()
        if self._last is None:
            self._began = self._spoke = now
        self._last = event
        if event.total is not None and event.done >= event.total:
            self.end()
        elif now - self._spoke >= _HEARTBEAT:
            self._spoke = now
            self._write(event, " so far")

    def end(self) -> None:
        """Write the line of the stage that ran last."""
        if self._last is not None:
            self._write(self._last, "")
            self._last = None

    def _write(self, event: Event, ending: str) -> None:
        seconds = time.monotonic() - self._began
        facts = [describe_count(event) if event.done else "", event.note, format_duration(seconds)]
        _print(sys.stderr, ("", f"{event.stage}: {', '.join(fact for fact in facts if fact)}{ending}"))


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = ("{task.description}", BarColumn(bar_width=24), "{task.fields[count]}", TimeElapsedColumn())
    shown = [TextColumn(column, markup=False) if isinstance(column, str) else column for column in columns]
    tail = TextColumn("{task.fields[tail]}", style="dim", markup=False)
    running: dict[str, tuple[TaskID, float, Event]] = {}
    with Bars(*shown, tail, console=console, refresh_per_second=8) as bars:

        def report(event: Event) -> None:
            task, began, last = running.get(event.stage, (None, time.monotonic(), event))
            if task is None or event.done < last.done:
                began = time.monotonic()
                task = bars.add_task(event.stage, total=event.total, count="", tail="")
            running[event.stage] = (task, began, event)
            rate = describe_rate(event, time.monotonic() - began)
            tail_text = "  ".join(part for part in (rate, event.note) if part)
            count = describe_count(event) if event.done or event.total else ""
            bars.update(task, completed=event.done, total=event.total, count=count, tail=tail_text)

        yield report


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() else _NO_WRAPPING
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


def _print(stream: TextIO, *parts: tuple[str, str]) -> None:
    from rich.text import Text

    _console(stream).print(Text.assemble(*((text, style) for style, text in parts)), soft_wrap=True)
