"""``smidgen merge``: work an adapter that was kept apart into its base."""

from __future__ import annotations

from typing import Annotated

import typer

from smidgen.cli import _step
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen


def command(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="A folder as --apart or PEFT writes it, or a LoRA's .gguf file.")
    ],
    into: Annotated[str, typer.Option("--into", metavar="MODEL", help="The model that it was trained on.")],
    out: Annotated[str, typer.Option("--out", metavar="PLACE", help="Folder to write, or a .gguf file.")],
    settings: Settings,
    gguf: Annotated[bool, typer.Option("--gguf", help="Write model.gguf into the folder as well.")] = False,
    force: _step.Force = False,
) -> None:
    """Work an adapter into the weights of the model it was trained on; weights that were pruned stay zero.

    For example: smidgen merge tickets-adapter --into smollm2:135m --out tuned
    """
    from smidgen.models.load import load_local
    from smidgen.shrink.finetune import reading

    screen = Screen(settings.json, settings.quiet)
    place = reading.find(adapter)
    path = _step.check_output(out, force=force)
    local, before = _step.find_model(into, settings, screen)
    _step.require_able(settings, before, path)
    with screen.progress() as progress:
        merged = reading.merge(place, load_local(local, progress=progress))
    made = _step.save(merged, local, path, gguf=gguf, floats=True, screen=screen)
    screen.result(made, lambda: _step.show(screen, made, before))
