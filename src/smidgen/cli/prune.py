"""``smidgen prune``: remove parts of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli import _step
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput
from smidgen.shrink.prune import comparison
from smidgen.shrink.prune.prune import Prune

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel


@_step.with_fields(Prune, without=("chosen", "allocation"))
def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a folder or a .gguf file.")],
    options: dict[str, Any],
    settings: Settings,
    out: Annotated[str | None, typer.Option("--out", metavar="FOLDER", help="Folder to write.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write nothing: show what the cut costs, by --criterion all by each criterion."),
    ] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="Write model.gguf into the folder as well.")] = False,
    data: _step.For = None,
    images: _step.Images = None,
    windows: _step.Windows = 24,
    force: _step.Force = False,
) -> None:
    """Remove layers, heads, neurons, width, tokens or single weights; an even cut reloads in plain transformers.

    For example: smidgen prune smollm2:135m --structure layer --keep 27 --out smaller

    Or, to compare the criteria: smidgen prune smollm2:135m --structure neuron --keep 1280 --criterion all --dry-run
    """
    from smidgen import verbs
    from smidgen.export import projector
    from smidgen.models.load import load_local

    screen = Screen(settings.json, settings.quiet)
    names = comparison.fitting(options["structure"], options["criterion"])
    if dry_run and images is not None:
        raise InvalidInput("What cutting the eyes costs is not foretold.", remedy="Leave --dry-run or --images out.")
    if dry_run:
        for name in names:
            Prune(**options | {"criterion": name})
        _compare(model, options, data, windows, settings, screen)
        return
    if len(names) > 1:
        raise InvalidInput("One cut is made by one criterion.", remedy="Add --dry-run to compare them all.")
    Prune(**options)
    path = _checked(out, force=force)
    local, before = _step.find_model(model, settings, screen)
    if gguf:
        _require_runnable(local, options)
    _step.require_able(settings, before, path)
    with screen.progress() as progress:
        source = load_local(local, progress=progress)
        if gguf:
            projector.require_writable(source)
        result = verbs.prune(
            source,
            data=data,
            images=images,
            windows=windows,
            seed=settings.seed,
            offline=settings.offline,
            progress=progress,
            **options,
        )
    made = _step.save(result, local, path, gguf=gguf, floats=True, screen=screen)
    screen.result(made, lambda: _step.show(screen, made, before))


def _checked(out: str | None, *, force: bool) -> Path:
    """Return the folder to write, or say why it cannot be."""
    if out is None:
        raise InvalidInput("Nothing says where the result goes.", remedy="Give --out FOLDER, or --dry-run.")
    if out.lower().endswith(".gguf"):
        raise InvalidInput("Pruning writes a folder, and --out names a file.", remedy="Name a folder and add --gguf.")
    return _step.check_output(out, force=force)


def _require_runnable(local: LocalModel, options: dict[str, Any]) -> None:
    """Refuse an uneven cut whose GGUF nothing could run, before any work."""
    from smidgen.export import gguf
    from smidgen.models import families, uneven_gguf
    from smidgen.models.checkpoint import gguf as container
    from smidgen.models.checkpoint.safetensors import read_config

    if not Prune(**options).makes_uneven:
        return
    if local.kind == "gguf":
        family = families.for_gguf(uneven_gguf.even_metadata(container.read(local.path).metadata))
    else:
        config = read_config(local.path)
        family = families.for_architecture(str((config.get("architectures") or [None])[0]))
    gguf.require_writable(family, uneven=True)


def _compare(
    model: str, options: dict[str, Any], data: str | None, windows: int, settings: Settings, screen: Screen
) -> None:
    """Show what the cut costs by each criterion."""
    from smidgen import verbs
    from smidgen.models.load import load_local

    local, before = _step.find_model(model, settings, screen)
    _step.require_memory(settings, before, copies=_step.COPIES)
    with screen.progress() as progress:
        found = verbs.compare_criteria(
            load_local(local, progress=progress),
            data=data,
            windows=windows,
            seed=settings.seed,
            offline=settings.offline,
            progress=progress,
            **options | {"criterion": options["criterion"] or comparison.fitting(options["structure"], None)[0]},
        )
    asked = {name: value for name, value in options.items() if value is not None and name != "criterion"}
    shown = {
        "source": {"name": local.name, "sha256": local.sha256, "parameters": before},
        "cut": asked,
        "criteria": [damage.to_dict() for damage in found],
    }
    columns = ("criterion", "predicted KL", "measured KL", "weights left", "seconds")
    rows = [
        (
            each.criterion,
            f"{each.predicted_kl:.4f}",
            f"{each.measured_kl:.4f}",
            f"{each.parameters:,}",
            f"{each.seconds:.1f}",
        )
        for each in found
    ]
    screen.result(shown, lambda: screen.table(columns, rows, title=f"{options['structure']}: nats per token"))
