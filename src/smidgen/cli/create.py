"""``smidgen create``: make a stored model from a Modelfile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import ReferenceNotFound


def command(
    model: Annotated[str, typer.Argument(metavar="NAME", help="The name it gets in the store.")],
    settings: Settings,
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="PATH", help="The Modelfile.", show_default="Modelfile, or FROM ."),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option("--quantize", "-q", metavar="TYPE", help="Store the weights as q4_K_M, q4_K_S, q8_0, ..."),
    ] = None,
    draft_quantize: Annotated[
        str | None, typer.Option("--draft-quantize", metavar="TYPE", help="The same for the draft model.")
    ] = None,
) -> None:
    """Make a stored model from a Modelfile: its weights, and how it is to be run.

    FROM names a model, a .gguf file or a folder of safetensors; ADAPTER a LoRA; DRAFT a small model that guesses
    ahead. SYSTEM, PARAMETER, TEMPLATE and MESSAGE are honoured by run and serve. Matrices are rounded without
    looking at any text; smidgen quantize does better, with a text to go by.

    For example: smidgen create helper -f Modelfile --quantize q4_K_M
    """
    from smidgen.models.modelfile import Modelfile, read
    from smidgen.recipe.create import Creation, create

    screen = Screen(settings.json, settings.quiet)
    place = Path(file or "Modelfile").expanduser()
    if place.is_dir():
        place = place / "Modelfile"
    if file is None and not place.exists() and (Path("config.json").is_file() or list(Path().glob("*.gguf"))):
        modelfile = Modelfile(".")
    elif not place.exists():
        raise ReferenceNotFound(f"There is no Modelfile at {place}.", remedy="Name it with --file PATH.")
    else:
        modelfile = read(place)
    wanted = Creation(model, modelfile, place.absolute().parent, quantize, draft_quantize, settings.offline)
    with screen.progress() as progress:
        stored = create(wanted, progress=progress)
    data = {"name": stored.name, "digest": stored.digest, "bytes": stored.bytes, "facts": dict(stored.facts)}
    screen.result(data, lambda: _show(screen, stored.name, stored.bytes))


def _show(screen: Screen, name: str, size: int) -> None:
    from smidgen.recipe.quantities import format_size

    screen.text(f"{name} is in the store: {format_size(size)}.")
    screen.text(f"Chat with it: smidgen run {name}")
