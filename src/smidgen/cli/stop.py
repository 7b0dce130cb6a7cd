"""``smidgen stop``: let a running server give a model's memory back."""

from __future__ import annotations

from typing import Annotated

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name, as smidgen ps shows it.")],
    settings: Settings,
) -> None:
    """Let the running server unload a model; what it is writing is finished first.

    The server is the one of OLLAMA_HOST or SMIDGEN_HOST, by default 127.0.0.1:11434.
    """
    from smidgen.serving.client import ServerClient
    from smidgen.serving.settings import ServingSettings

    screen = Screen(settings.json, settings.quiet)
    client = ServerClient(ServingSettings.from_environment())
    client.ask("POST", "/api/generate", {"model": model, "keep_alive": 0})
    screen.result({"model": model, "stopped": True}, lambda: screen.text(f"{model} is unloaded."))
