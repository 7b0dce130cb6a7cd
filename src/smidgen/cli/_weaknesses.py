"""How ``smidgen measure --weaknesses`` looks for weaknesses and shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import Group, Settings
from smidgen.cli.screen import Screen

if TYPE_CHECKING:
    from smidgen.evaluate.examine import Examination

_PANEL = "Weaknesses"


@dataclass(frozen=True)
class Asked:
    """What the options say.

    Attributes:
        wanted: Whether any are looked for.
        only: Names of weaknesses; all where empty.
        trained_on: What the model was trained on.
        longest: Most tokens of context.
        keep: Whether what is found is written into receipts and reports.
        judge: A model that reads what they write.
        texts: Data of the domain.
        windows: Windows of each text.
    """

    wanted: bool
    only: tuple[str, ...] = ()
    trained_on: str | None = None
    longest: int = 4096
    keep: bool = False
    judge: str | None = None
    texts: tuple[str, ...] = ()
    windows: int = 8


def asked(
    weaknesses: Annotated[
        bool, typer.Option("--weaknesses", help="Look for the known weaknesses instead.", rich_help_panel=_PANEL)
    ] = False,
    weakness: Annotated[
        list[str] | None,
        typer.Option("--weakness", metavar="NAME", help="Only this one; may be repeated.", rich_help_panel=_PANEL),
    ] = None,
    trained_on: Annotated[
        str | None,
        typer.Option(
            "--trained-on",
            metavar="DATA",
            help="What it was trained on, to tell what it learnt by heart.",
            show_default="the built-in text, where --text is not said",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    longest: Annotated[
        int,
        typer.Option("--longest", metavar="N", help="Most tokens of context that are tried.", rich_help_panel=_PANEL),
    ] = 4096,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Look beside the source of made folders, and write what is found into their receipts and reports.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="MODEL",
            help="Who reads the long texts that they write.",
            show_default="nobody",
            rich_help_panel=_PANEL,
        ),
    ] = None,
) -> Asked:
    """Gather the options of weaknesses."""
    only = tuple(weakness or ())
    return Asked(weaknesses or bool(only) or keep, only, trained_on, longest, keep, judge)


Options = Annotated[Asked, Group(asked)]


def look(models: Sequence[str], against: str | None, asked: Asked, settings: Settings, screen: Screen) -> None:
    """Look for weaknesses; show what was found, and keep it where that was asked for."""
    if asked.keep:
        keep(models, asked, settings, screen)
    else:
        show(models, against, asked, settings, screen)


def keep(folders: Sequence[str], asked: Asked, settings: Settings, screen: Screen) -> None:
    """Look for the weaknesses of made folders, write them into receipts and reports, and show them."""
    from smidgen.evaluate import weaknesses
    from smidgen.recipe import receipt, shortcomings

    weaknesses.chosen(asked.only)
    setting = shortcomings.Setting(asked.only, asked.windows, asked.longest, settings.seed)
    for folder in folders:
        receipt.read(Path(folder))
    found = []
    with screen.progress() as progress:
        for folder in folders:
            place = Path(folder)
            seen = shortcomings.look(
                place, setting, threads=settings.threads, offline=settings.offline, progress=progress
            )
            shortcomings.keep(place, seen, setting)
            found.append(replace(seen, name=folder))
    screen.result({"models": [each.to_dict() for each in found]}, lambda: _show(screen, found, "its source"))


def show(models: Sequence[str], against: str | None, asked: Asked, settings: Settings, screen: Screen) -> None:
    """Look for weaknesses and show what was found."""
    from smidgen.evaluate import weaknesses
    from smidgen.evaluate.examine import default_subjects, examine

    weaknesses.chosen(asked.only)  # an unknown name is told before anything is read
    with screen.progress() as progress:
        subjects = default_subjects(
            asked.texts,
            asked.trained_on,
            windows=asked.windows,
            longest=asked.longest,
            seed=settings.seed,
            judge=asked.judge,
            offline=settings.offline,
        )
        found = examine(
            *models,
            against=against,
            subjects=subjects,
            only=asked.only,
            threads=settings.threads,
            offline=settings.offline,
            progress=progress,
        )
    screen.result(
        {"against": against, "models": [each.to_dict() for each in found]}, lambda: _show(screen, found, against)
    )


def _show(screen: Screen, found: Sequence[Examination], against: str | None) -> None:
    from smidgen.evaluate.findings import show_interval

    for each in found:
        rows = [
            (finding.name, show_interval(finding), {True: "weak", False: "", None: ""}[finding.weak], finding.sentence)
            for finding in each.findings
        ]
        title = each.name if against is None else f"{each.name}, beside {against}"
        screen.table(("looked for", "found, with 95% interval", "", "in words"), rows, title=title)
