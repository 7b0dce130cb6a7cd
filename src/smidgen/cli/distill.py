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
from smidgen.recipe.recipe import Step
from smidgen.shrink.distill.distill import Distill

Losses = Annotated[
    list[str] | None,
    typer.Option(
        "--loss",
        metavar="NAME=WEIGHT[,OPTION=VALUE]",
        help="What is compared; may be repeated.",
        show_default="soft_output=1",
    ),
]
TeacherOptions = Annotated[
    str | None,
    typer.Option("--teacher-options", metavar="OPTION=VALUE,...", help="Such as k=32 with --cached."),
]
LayerMap = Annotated[
    str | None,
    typer.Option(
        "--layer-map",
        metavar="STUDENT=TEACHER,...",
        help="Which of the teacher's layers answers to which of the student's, counted from 0.",
        show_default="by lineage, else spread evenly",
    ),
]
HeadMap = Annotated[
    str | None,
    typer.Option(
        "--head-map",
        metavar="STUDENT=TEACHER,...",
        help="The same for query heads, in every layer.",
        show_default="by lineage, else by number",
    ),
]


@_step.with_fields(Distill, without=("teacher", "seed", "teacher_options", "layer_map", "head_map"))
def command(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="The model to train: a name, a folder, a file.")],
    teacher: Annotated[str, typer.Option("--teacher", metavar="MODEL", help="The model to learn from.")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder to write.")],
    options: dict[str, Any],
    settings: Settings,
    loss: Losses = None,
    cached: Annotated[
        bool, typer.Option("--cached", help="Ask the teacher once and keep its likeliest tokens.")
    ] = False,
    on_policy: Annotated[
        bool, typer.Option("--on-policy", help="Let the student write and the teacher score it; slow.")
    ] = False,
    teacher_options: TeacherOptions = None,
    layer_map: LayerMap = None,
    head_map: HeadMap = None,
    gguf: Annotated[bool, typer.Option("--gguf", help="Write model.gguf into the folder as well.")] = False,
    data: _step.For = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="FOLDER", help="Teach the part that reads images, by these images."),
    ] = None,
    force: _step.Force = False,
) -> None:
    """Train a small model to predict as a larger one of the same tokens does; resumes when it was stopped.

    For example: smidgen distill smaller --teacher smollm2:135m --steps 200 --out healed
    """
    from smidgen import verbs
    from smidgen.models.load import load_local

    screen = Screen(settings.json, settings.quiet)
    teaching = "cached" if cached else "on_policy" if on_policy else "live"
    if cached and on_policy:
        raise InvalidInput("What the student writes cannot be cached.", remedy="Leave --cached or --on-policy out.")
    if loss:
        options["losses"] = read_losses(loss)
    if teacher_options:
        options["teacher_options"] = read_options("--teacher-options", teacher_options)
    for name, words in (("layer_map", layer_map), ("head_map", head_map)):
        if words:
            options[name] = read_map(f"--{name.replace('_', '-')}", words)
    Step("distill", {**options, "teacher": teaching}, images).build()
    if out.lower().endswith(".gguf"):
        raise InvalidInput(
            "Distilling writes a folder, and --out names a file.", remedy="Name a folder and add --gguf."
        )
    path = _step.check_output(out, force=force)
    pupil, before = _step.find_model(student, settings, screen)
    source, parameters = _step.find_model(teacher, settings, screen)
    _step.require_able(settings, before + parameters, path)
    asked = [pupil.sha256, source.sha256, data, settings.seed, teaching, options, *([images] if images else [])]
    checkpoints = checkpoint_folder(asked)
    with screen.progress() as progress:
        result = verbs.distill(
            load_local(pupil, progress=progress),
            load_local(source, progress=progress),
            data=data,
            images=images,
            teaching=teaching,
            checkpoints=checkpoints,
            seed=settings.seed,
            offline=settings.offline,
            progress=progress,
            **options,
        )
    made = _step.save(result, pupil, path, gguf=gguf, floats=True, screen=screen)
    shutil.rmtree(checkpoints, ignore_errors=True)
    screen.result(made, lambda: _step.show(screen, made, before))


def read_losses(words: list[str]) -> dict[str, Any]:
    """Read losses with their weights and options.

    Raises:
        InvalidInput: One is not a name with a weight above 0.
        ReferenceNotFound: There is no such loss or option.

    Example:
        >>> read_losses(["soft_output=1", "hidden=0.5,measure=mse"])
        {'soft_output': 1.0, 'hidden': {'weight': 0.5, 'measure': 'mse'}}
    """
    from smidgen.shrink.distill import losses

    found: dict[str, Any] = {}
    for word in words:
        first, _, rest = word.partition(",")
        name, _, written = first.partition("=")
        options = read_options("--loss", rest) if rest else {}
        losses.build(name, {key: value for key, value in options.items() if key != "weight_end"})
        try:
            weight = float(written or 1)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise InvalidInput(f"--loss {word!r} has no weight above 0.", remedy="Write it like soft_output=1.")
        found[name] = {"weight": weight, **options} if options else weight
    return found


def read_options(flag: str, words: str) -> dict[str, Any]:
    """Read options of a method.

    Raises:
        InvalidInput: One is not a name with a value.

    Example:
        >>> read_options("--teacher-options", "k=32,name=x,exact=true")
        {'k': 32, 'name': 'x', 'exact': True}
    """
    import yaml

    found = {}
    for word in words.split(","):
        name, equals, value = word.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise InvalidInput(f"{flag} holds {word!r}, which gives nothing a value.", remedy="Write option=value.")
        found[name.strip()] = yaml.safe_load(value) if value.replace(".", "").isalnum() else value.strip()
    return found


def read_map(flag: str, words: str) -> dict[int, int]:
    """Read which number answers to which.

    Raises:
        InvalidInput: It is not made of pairs of numbers.

    Example:
        >>> read_map("--layer-map", "0=1,1=3")
        {0: 1, 1: 3}
    """
    try:
        return {int(one): int(other) for one, other in (pair.split("=") for pair in words.split(","))}
    except ValueError:
        raise InvalidInput(f"{flag} {words!r} is no map.", remedy="Write it like 0=1,1=3.") from None


def checkpoint_folder(asked: list[Any]) -> Path:
    """Return the folder from which the same command goes on after it was stopped; whoever keeps things makes it."""
    from smidgen.models.store import default_root

    key = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    return default_root() / "training" / key[:32]
