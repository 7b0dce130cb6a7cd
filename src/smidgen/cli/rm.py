"""``smidgen rm``: remove models from the store."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import Interrupted, ReferenceNotFound, SmidgenError

if TYPE_CHECKING:
    from smidgen.models.store import Store


def command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names in the store; see smidgen list.")],
    settings: Settings,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove models from the store and free what no other model uses.

    Asks first where a person sits at the terminal; scripts are not asked.
    """
    from smidgen.models.store import Store

    screen = Screen(settings.json, settings.quiet)
    store = Store()
    names = list(dict.fromkeys(stored_name(store, model) for model in models))
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        listing = ", ".join(names)
        if not typer.confirm(f"Remove {listing} from the store?", err=True):
            raise Interrupted("Nothing was removed.")
    removed: dict[str, int] = {}
    for name in names:
        removed[name] = _remove_cached(store, name) + store.remove(name)
    data = [{"name": name, "freed_bytes": freed} for name, freed in removed.items()]
    screen.result({"removed": data}, lambda: _show(screen, removed))


def _show(screen: Screen, removed: dict[str, int]) -> None:
    from smidgen.recipe.quantities import format_size

    for name, freed in removed.items():
        screen.text(f"{name} removed, {format_size(freed)} freed.")


def stored_name(store: Store, name: str) -> str:
    """Return the full name of a stored model without opening it, so that a damaged one can be removed too.

    Raises:
        ReferenceNotFound: No stored model has that name.
        InvalidInput: No model can have it.
    """
    from smidgen.models.names import DEFAULT_TAG, StoreName

    known = store.names()
    full = str(StoreName.parse(name))
    if full in known:
        return full
    versions = store.versions(name) if full.startswith("hf:") else ()
    if not versions:
        raise ReferenceNotFound.among("stored model", name, [each.removesuffix(f":{DEFAULT_TAG}") for each in known])
    return versions[0].name


def _remove_cached(store: Store, name: str) -> int:
    """Delete the GGUF that was written of a stored model, and return its size."""
    from smidgen.export.runnable import cached
    from smidgen.models.sources import from_store

    with suppress(SmidgenError, OSError):
        path = cached(from_store(store.resolve(name)), store)
        size = path.stat().st_size
        path.unlink()
        return size
    return 0
