"""``smidgen finetune``: train a model on examples or plain text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli import _step
from smidgen.cli.distill import checkpoint_folder
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput
from smidgen.shrink.finetune.finetune import Finetune

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel
    from smidgen.shrink.finetune.finetune import FinetuneResult

OWN_WEIGHTS = 2
"""How many times the memory of a step is needed where all weights are trained: gradients, two moments, the best."""


@_step.with_fields(Finetune, without=("seed",))
def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model to train: a name, a folder, a file.")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder to write.")],
    options: dict[str, Any],
    settings: Settings,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Of the objective, as instruction=...; may be repeated."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="PATTERN", help="Names of weights that stay; may be repeated."),
    ] = None,
    apart: Annotated[
        bool, typer.Option("--apart", help="Write only the adapter: for PEFT, and as adapter.gguf for llama.cpp.")
    ] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="Write model.gguf into the folder as well.")] = False,
    data: _step.For = None,
    force: _step.Force = False,
) -> None:
    """Train a model on examples or plain text, its own weights or an adapter; resumes when it was stopped.

    For example: smidgen finetune smollm2:135m --for tickets.jsonl --method lora --out tuned
    """
    from smidgen import verbs
    from smidgen.recipe import gathering
    from smidgen.shrink.finetune.zeros import require_keepable

    screen = Screen(settings.json, settings.quiet)
    if out.lower().endswith(".gguf"):
        raise InvalidInput(
            "Fine-tuning writes a folder, and --out names a file.", remedy="Name a folder and add --gguf."
        )
    if apart and (options["method"] == "full" or gguf):
        wrong = "--gguf writes a whole model" if gguf else "--method full trains the model itself"
        raise InvalidInput(f"--apart writes an adapter, and {wrong}.", remedy="Give --method lora and no --gguf.")
    options |= {"options": read_options(options["objective"], option or []), "freeze": tuple(freeze or ())}
    Finetune(**options)
    path = _step.check_output(out, force=force)
    source, parameters = _step.find_model(model, settings, screen)
    _step.require_able(settings, parameters * (OWN_WEIGHTS if options["method"] == "full" else 1), path)
    checkpoints = checkpoint_folder(["finetune", source.sha256, data, settings.seed, options])
    with screen.progress() as progress:
        loaded = gathering.load_as_stored(source, options, progress)
        require_keepable(loaded, apart=apart)
        result = verbs.finetuned(
            loaded,
            data=data,
            checkpoints=checkpoints,
            seed=settings.seed,
            offline=settings.offline,
            progress=progress,
            **options,
        )
    made = (
        _save_apart(result, source, path)
        if apart
        else _step.save(result.model, source, path, gguf=gguf, floats=True, screen=screen)
    )
    made |= {"curves": result.curves}
    shutil.rmtree(checkpoints, ignore_errors=True)
    screen.result(made, lambda: _show(screen, made, parameters))


def read_options(objective: str, words: list[str]) -> dict[str, Any]:
    """Read the options of an objective.

    Raises:
        InvalidInput: One has no value, or a value of another type.
        ReferenceNotFound: There is no such objective or option.

    Example:
        >>> read_options("self_supervised", ["task=span", "share=0.2"])
        {'task': 'span', 'share': 0.2}
    """
    import dataclasses
    import typing

    from pydantic import TypeAdapter, ValidationError

    from smidgen import registry
    from smidgen.errors import ReferenceNotFound
    from smidgen.shrink.finetune import objectives

    kind = registry.find(objectives.__name__, objective)
    known = typing.get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidInput(f"--option {word!r} has no value.", remedy="Write it like task=span.")
        if name not in known:
            raise ReferenceNotFound.among(f"option of the objective {objective}", name, known)
        try:
            found[name] = TypeAdapter(known[name]).validate_python(value)
        except ValidationError as error:
            wanted = error.errors(include_url=False)[0]["msg"]
            raise InvalidInput(f"--option {word!r}: {wanted[0].lower()}{wanted[1:]}.") from None
    return found


def _save_apart(result: FinetuneResult, source: LocalModel, out: Path) -> dict[str, Any]:
    """Write an adapter with what must travel with it; the folder appears only when it is whole."""
    from smidgen.export import adapter
    from smidgen.models.files import atomic_folder, make_folder

    if result.adapter is None:
        raise AssertionError("without an adapter nothing can be kept apart")
    make_folder(out.absolute().parent)
    with atomic_folder(out) as temporary:
        adapter.write(result.adapter, result.model, temporary)
        for path in source.files:
            is_card = path.name.lower() == "readme.md"
            shutil.copyfile(path, temporary / (f"source-{path.name}" if is_card else path.name))
        (temporary / "README.md").write_text(_step.card(result.model), encoding="utf-8")
    files = sorted(path for path in out.rglob("*") if path.is_file())
    step = result.model.lineage.steps[-1]
    return {
        "out": str(out),
        "files": [str(path) for path in files],
        "bytes": sum(path.stat().st_size for path in files if path.suffix == ".safetensors"),
        "parameters": sum(each.numel() for each in result.adapter.weights.values()),
        "source": {"name": source.name, "sha256": source.sha256},
        "step": {"operation": step.operation, **step.parameters},
    }


def _show(screen: Screen, made: dict[str, Any], before: int) -> None:
    """Say in a few lines what was made and what the held-out loss did."""
    from smidgen.recipe.quantities import format_size

    curves, step = made["curves"], made["step"]
    first, last, gap = step["held_out_before"], step["held_out_best"], curves["gap"]
    ended = "stopped early, since it rose again" if curves["stopped_early"] else "trained to the end"
    overfitting = ended if gap is None else f"{ended}; {gap:+.4f} above the training loss"
    rows = [
        ("from", made["source"]["name"]),
        ("parameters", f"{made['parameters']:,} ({made['parameters'] / max(1, before):.1%} of {before:,})"),
        ("learning rate", f"{curves['learning_rate']:g}{' (found by trials)' if curves['sweep'] else ''}"),
        ("epochs", f"{curves['epochs']:.3g}, {step['steps']} steps"),
        ("held-out loss", f"{first:.4f} before, {last:.4f} after {curves['best_step']} steps"),
        ("overfitting", overfitting),
        ("size", format_size(made["bytes"])),
        ("written to", made["out"]),
    ]
    screen.table((step["operation"], ""), rows)
