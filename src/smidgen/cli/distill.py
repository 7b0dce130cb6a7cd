"""``smidgen distill``: train a small model to predict as a larger one does."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from smidgen.cli import _step
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput
from smidgen.shrink.distill.distill import Distill


@_step.with_fields(Distill, without=("teacher", "seed"))
def command(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="The model to train: a name, a folder, a file.")],
    teacher: Annotated[str, typer.Option("--teacher", metavar="MODEL", help="The model to learn from.")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder to write.")],
    options: dict[str, Any],
    settings: Settings,
    loss: Annotated[
        list[str] | None,
        typer.Option("--loss", metavar="NAME=WEIGHT", help="May be repeated.", show_default="soft_output=1"),
    ] = None,
    cached: Annotated[
        bool, typer.Option("--cached", help="Ask the teacher once and keep its likeliest tokens.")
    ] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="Write model.gguf into the folder as well.")] = False,
    data: _step.For = None,
    force: _step.Force = False,
) -> None:
    """Train a small model to predict as a larger one of the same tokens does; resumes when it was stopped.

    For example: smidgen distill smaller --teacher smollm2:135m --steps 200 --out healed
    """
    from smidgen import verbs
    from smidgen.models.load import load_local

    screen = Screen(settings.json, settings.quiet)
    if loss:
        options["losses"] = read_losses(loss)
    if out.lower().endswith(".gguf"):
        raise InvalidInput(
            "Distilling writes a folder, and --out names a file.", remedy="Name a folder and add --gguf."
        )
    path = _step.check_output(out, force=force)
    pupil, before = _step.find_model(student, settings, screen)
    source, parameters = _step.find_model(teacher, settings, screen)
    _step.require_able(settings, before + parameters, path)
    asked = [pupil.sha256, source.sha256, data, settings.seed, cached, options]
    checkpoints = checkpoint_folder(asked)
    with screen.progress() as progress:
        result = verbs.distill(
            load_local(pupil, progress=progress),
            load_local(source, progress=progress),
            data=data,
            teaching="cached" if cached else "live",
            checkpoints=checkpoints,
            seed=settings.seed,
            offline=settings.offline,
            progress=progress,
            **options,
        )
    made = _step.save(result, pupil, path, gguf=gguf, floats=True, screen=screen)
    shutil.rmtree(checkpoints, ignore_errors=True)
    screen.result(made, lambda: _step.show(screen, made, before))


def read_losses(words: list[str]) -> dict[str, float]:
    """Read losses with their weights.

    Raises:
        InvalidInput: One is not a name with a weight above 0.
        ReferenceNotFound: There is no such loss.

    Example:
        >>> read_losses(["soft_output=1", "hidden=0.5"])
        {'soft_output': 1.0, 'hidden': 0.5}
    """
    from smidgen import registry

    found = {}
    for word in words:
        name, _, weight = word.partition("=")
        registry.find("smidgen.shrink.distill.losses", name)
        try:
            found[name] = float(weight or 1)
        except ValueError:
            found[name] = 0.0
        if not 0 < found[name] < float("inf"):
            raise InvalidInput(f"--loss {word!r} has no weight above 0.", remedy="Write it like soft_output=1.")
    return found


def checkpoint_folder(asked: list[Any]) -> Path:
    """Return the folder from which the same command goes on after it was stopped."""
    from smidgen.models.files import make_folder
    from smidgen.models.store import default_root

    key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    return make_folder(default_root() / "training" / key[:32])
