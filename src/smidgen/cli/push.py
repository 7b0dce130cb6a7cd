"""``smidgen push``: send a stored model to a registry."""

from __future__ import annotations

from typing import Annotated

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import SourceUnavailable


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Its name in the store: namespace/name:tag, a host before it.")
    ],
    settings: Settings,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow registries without encryption.")] = False,
) -> None:
    """Send a stored model to a registry of Ollama's protocol, under its own name there.

    The registry is the host before the name, else the one in SMIDGEN_OLLAMA_REGISTRY. Where it wants a user and a
    password, they are read from SMIDGEN_REGISTRY_USER and SMIDGEN_REGISTRY_PASSWORD.

    The name says where it goes; smidgen cp gives a model another one.

    For example: smidgen push --insecure localhost:5000/me/small
    """
    from smidgen.models.sources.ollama_registry import push
    from smidgen.models.store import Store

    screen = Screen(settings.json, settings.quiet)
    if settings.offline:
        raise SourceUnavailable("Nothing can be sent offline.", remedy="Leave --offline out.")
    with screen.progress() as progress:
        place = push(model, Store(), insecure=insecure, progress=progress)
    screen.result({"name": model, "address": place}, lambda: screen.text(f"{model} lies at {place} now."))
