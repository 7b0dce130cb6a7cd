"""``smidgen cp``: give a stored model a second name."""

from __future__ import annotations

from typing import Annotated

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A name in the store; see smidgen list.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The second name.")],
    settings: Settings,
) -> None:
    """Give a stored model a second name; what it consists of is shared, and kept until both names are removed."""
    from smidgen.models.store import Store

    screen = Screen(settings.json, settings.quiet)
    copied = Store().copy(source, target)
    screen.result(
        {"name": copied.name, "digest": copied.digest}, lambda: screen.text(f"{copied.name} is in the store.")
    )
