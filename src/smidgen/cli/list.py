"""``smidgen list``: the models in the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen

if TYPE_CHECKING:
    from smidgen.models.store import StoredModel


def command(settings: Settings) -> None:
    """List the models in the store."""
    from smidgen.models.store import Store

    screen = Screen(settings.json, settings.quiet)
    store = Store()
    models = [describe(stored) for stored in store.list()]
    screen.result({"store": str(store.root), "models": models}, lambda: _show(screen, models))


def describe(stored: StoredModel) -> dict[str, Any]:
    """Return one line of the list as plain data."""
    # Files of Ollama's store have no endings.
    is_gguf = stored.facts.get("format") == "gguf" or any(name.lower().endswith(".gguf") for name in stored.digests)
    return {
        "name": stored.name,
        "digest": stored.digest,
        "bytes": stored.bytes,
        "format": "gguf" if is_gguf else "safetensors",
        "licence": stored.facts.get("licence"),
        "kept_by": "ollama" if stored.facts.get("read_only") else "smidgen",
        "added": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stored.added)),
    }


def _show(screen: Screen, models: list[dict[str, Any]]) -> None:
    from smidgen.recipe.quantities import format_size

    if not models:
        screen.text("The store is empty. Get a model with: smidgen pull smollm2:135m")
        return
    foreign = any(each["kept_by"] != "smidgen" for each in models)
    rows = [
        (each["name"], format_size(each["bytes"]), each["format"], each["licence"] or "not stated", each["added"][:10])
        + ((each["kept_by"],) if foreign else ())
        for each in models
    ]
    columns = ("name", "size", "format", "licence", "added", *(("kept by",) if foreign else ()))
    screen.table(columns, rows)
