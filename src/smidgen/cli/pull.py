"""``smidgen pull``: get a model and keep it in the store."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="smollm2:135m, llama3.2, hf:org/name or a file.")],
    settings: Settings,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Keep it under this name.", show_default="its own")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow registries without encryption.")] = False,
) -> None:
    """Get a model and keep it in the store, so that its name is enough from then on.

    A name of Ollama's library, as llama3.2 or ollama:namespace/name:tag, comes from its registry.
    """
    from smidgen.models.names import StoreName
    from smidgen.models.sources import pull
    from smidgen.models.store import Store

    screen = Screen(settings.json, settings.quiet)
    if name is not None:
        StoreName.parse(name)
    with screen.progress() as progress:
        stored = pull(model, Store(), name=name, offline=settings.offline, insecure=insecure, progress=progress)
    facts = dict(stored.facts)
    data = {
        "name": stored.name,
        "digest": stored.digest,
        "bytes": stored.bytes,
        "files": {key: str(path) for key, path in stored.paths.items()},
        "facts": facts,
    }
    screen.result(data, lambda: _show(screen, stored.name, stored.bytes, facts))


def _show(screen: Screen, name: str, size: int, facts: dict[str, Any]) -> None:
    from smidgen.recipe.quantities import format_size

    licence = f", licence {facts['licence']}" if facts.get("licence") else ""
    screen.text(f"{name} is in the store: {format_size(size)}{licence}.")
    if facts.get("licence_notice"):
        screen.text(str(facts["licence_notice"]))
    screen.text(f"Chat with it: smidgen run {name}")
