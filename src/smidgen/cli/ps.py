"""``smidgen ps``: which models a running server has loaded."""

from __future__ import annotations

import datetime
from typing import Any

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen


def command(settings: Settings) -> None:
    """Show which models the running server has loaded, and until when.

    The server is the one of OLLAMA_HOST or SMIDGEN_HOST, by default 127.0.0.1:11434.
    """
    from smidgen.serving.client import ServerClient
    from smidgen.serving.settings import ServingSettings

    screen = Screen(settings.json, settings.quiet)
    found = ServerClient(ServingSettings.from_environment()).ask("GET", "/api/ps")
    rows = [_row(model) for model in found["models"]]
    screen.result(found, lambda: screen.table(("name", "size", "context", "speculation", "until"), rows))


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    from smidgen.recipe.quantities import format_duration, format_size

    left = datetime.datetime.fromisoformat(model["expires_at"]) - datetime.datetime.now(datetime.UTC)
    until = "forever" if left.days > 36500 else f"{format_duration(max(0.0, left.total_seconds()))} from now"
    guessing = model.get("speculation", "off")
    return model["name"], format_size(model["size"]), f"{model['context_length']:,}", guessing, until
