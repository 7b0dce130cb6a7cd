"""How ``smidgen measure --curves`` measures speed by depth and by answers at once, and shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import Group, Settings
from smidgen.cli.screen import Screen

if TYPE_CHECKING:
    from smidgen.evaluate.curves import Curves
    from smidgen.evaluate.speed import Rate

_PANEL = "Speed"


@dataclass(frozen=True)
class Asked:
    """What the options say.

    Attributes:
        wanted: Whether curves are measured.
        depths: Tokens of context; the usual ones where empty.
        streams: Answers written at once; the usual ones where empty.
    """

    wanted: bool
    depths: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()


def asked(
    curves: Annotated[
        bool,
        typer.Option("--curves", help="Measure speed by depth and by answers at once instead.", rich_help_panel=_PANEL),
    ] = False,
    depth: Annotated[
        list[int] | None,
        typer.Option(
            "--depth",
            metavar="N",
            help="Tokens of context to measure speed at; may be repeated.",
            show_default="0, 512, 1024, 2048 and 4096",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    streams: Annotated[
        list[int] | None,
        typer.Option(
            "--streams",
            metavar="N",
            help="Answers written at once; may be repeated.",
            show_default="1, 2, 4, 8 and 16",
            rich_help_panel=_PANEL,
        ),
    ] = None,
) -> Asked:
    """Gather the options of curves."""
    depths, together = tuple(depth or ()), tuple(streams or ())
    return Asked(curves or bool(depths or together), depths, together)


Options = Annotated[Asked, Group(asked)]


def show(models: Sequence[str], asked: Asked, settings: Settings, screen: Screen) -> None:
    """Measure curves and show them."""
    from smidgen.evaluate import curves

    points = curves.Asked(asked.depths or curves.DEPTHS, asked.streams or curves.STREAMS)
    with screen.progress() as progress:
        found = curves.measure_curves(
            *models, asked=points, threads=settings.threads, offline=settings.offline, progress=progress
        )
    screen.result({"models": [each.to_dict() for each in found]}, lambda: _show(screen, found))


def _show(screen: Screen, found: Sequence[Curves]) -> None:
    rows = [
        (each.name, f"{point.depth:,}", _range(point.read) if point.read else "", _range(point.write))
        for each in found
        for point in each.depths
    ]
    screen.table(("model", "tokens of context", "reads them, tok/s", "writes there, tok/s"), rows)
    together = [
        (
            each.name,
            str(point.streams),
            _range(point.tokens_per_second),
            f"{point.ttft_ms.p50:,.0f} / {point.ttft_ms.p95:,.0f} / {point.ttft_ms.p99:,.0f}",
            f"{point.between_tokens_ms.p50:,.1f} / {point.between_tokens_ms.p95:,.1f}",
        )
        for each in found
        for point in each.streams
    ]
    latencies = ("first token, ms (p50 / p95 / p99)", "between tokens, ms (p50 / p95)")
    screen.table(("model", "answers at once", "together, tok/s", *latencies), together)
    for each in found:
        if each.energy is not None:
            screen.text(f"{each.name}: {each.energy.sentence}")
        for note in each.notes:
            screen.warn(f"{each.name}: {note}")


def _range(rate: Rate) -> str:
    return f"{rate.median:,.1f} ({rate.low:,.1f} to {rate.high:,.1f})"
