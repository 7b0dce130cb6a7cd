"""``smidgen apply``: run an exact recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smidgen.cli import _outcome, _step
from smidgen.cli.options import Settings, is_given
from smidgen.cli.screen import Screen


def command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="recipe.yaml of a made folder, or your own.")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder to write.")],
    settings: Settings,
    context: typer.Context,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run in the folder.")] = False,
) -> None:
    """Run an exact recipe: on the same machine and thread count it gives the same bytes.

    The threads are those of the recipe where --threads does not say. The same command goes on where it was stopped.
    """
    from smidgen.recipe.make import apply

    screen = Screen(settings.json, settings.quiet)
    _step.require_cpu(settings)
    with screen.progress() as progress:
        outcome = apply(
            Path(recipe).expanduser(),
            out=out,
            threads=settings.threads if is_given(context, "threads") else None,
            offline=settings.offline,
            max_memory=settings.max_memory,
            fresh=fresh,
            progress=progress,
        )
    _outcome.show(screen, outcome)
