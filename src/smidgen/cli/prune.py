"""``smidgen prune``: remove parts of a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from smidgen.cli import _step
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput
from smidgen.shrink.prune.prune import Prune


@_step.with_fields(Prune, without=("chosen", "allocation"))
def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a folder or a .gguf file.")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder to write.")],
    options: dict[str, Any],
    settings: Settings,
    gguf: Annotated[bool, typer.Option("--gguf", help="Write model.gguf into the folder as well.")] = False,
    data: _step.For = None,
    windows: _step.Windows = 24,
    force: _step.Force = False,
) -> None:
    """Remove layers, heads, neurons, width, tokens or single weights; an even cut reloads in plain transformers.

    For example: smidgen prune smollm2:135m --structure layer --criterion block_influence --keep 27 --out smaller
    """
    from smidgen import verbs
    from smidgen.models.load import load_local

    screen = Screen(settings.json, settings.quiet)
    Prune(**options)
    if out.lower().endswith(".gguf"):
        raise InvalidInput("Pruning writes a folder, and --out names a file.", remedy="Name a folder and add --gguf.")
    path = _step.check_output(out, force=force)
    local, before = _step.find_model(model, settings, screen)
    _step.require_able(settings, before, path)
    with screen.progress() as progress:
        result = verbs.prune(
            load_local(local, progress=progress),
            data=data,
            windows=windows,
            seed=settings.seed,
            offline=settings.offline,
            progress=progress,
            **options,
        )
    made = _step.save(result, local, path, gguf=gguf, floats=True, screen=screen)
    screen.result(made, lambda: _step.show(screen, made, before))
