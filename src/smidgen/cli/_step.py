"""What the commands share that do one way of shrinking as one step: options, checks before, files after."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput, OutOfResources, Unsupported

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.models.sources import LocalModel
    from smidgen.progress import Progress

GGUF = "model.gguf"
COPIES, FIXED_MEMORY = 3, 500_000_000
"""Float32 copies of a model that a step holds at once, and what libraries take besides."""
_TYPES: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool}

For = Annotated[
    str | None,
    typer.Option(
        "--for", metavar="DATA", help="Text to go by: a file, a folder or hf:org/name.", show_default="built-in"
    ),
]
Images = Annotated[
    str | None,
    typer.Option("--images", metavar="FOLDER", help="Shrink the part that reads images, going by these images."),
]
Windows = Annotated[int, typer.Option("--windows", metavar="N", min=1, help="Calibration windows of 512 tokens.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what smidgen wrote there before.")]


def with_fields(kind: type[Any], without: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the fields of an operation as options; it receives those given as one ``options``.

    Args:
        kind: A frozen dataclass; the options' help is the section ``Attributes`` of its docstring.
        without: Fields that the command fills itself. Fields that hold more than one value are left out.
    """
    meanings = field_meanings(kind)
    fields = [field for field in dataclasses.fields(kind) if field.name not in without and _type_of(field) is not None]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = inspect.signature(command, eval_str=True).parameters
        generated = [parameter_of(field, meanings.get(field.name, "")) for field in fields]
        model, *rest = (each for name, each in own.items() if name != "options")
        parameters = [model, *generated, *rest]

        @functools.wraps(command)
        def called(**values: Any) -> Any:
            options = {field.name: values.pop(field.name) for field in fields}
            return command(options=options, **values)

        ordered = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        called.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in ordered}
        return called

    return decorate


def _type_of(field: dataclasses.Field[Any]) -> Any:
    """Return the type of an option, None for fields that no single word can fill."""
    first, *others = str(field.type).split(" | ")
    found = _TYPES.get(first)
    return found | None if found is not None and "None" in others else found


def parameter_of(field: dataclasses.Field[Any], meaning: str) -> inspect.Parameter:
    """Return the option that a field with a single value becomes."""
    flag = f"--{field.name.replace('_', '-')}"
    is_switch = str(field.type) == "bool"
    option = typer.Option(
        f"{flag}/--no-{field.name.replace('_', '-')}" if is_switch else flag,
        help=meaning,
        metavar=None if is_switch else "N" if _type_of(field) in (int, float, int | None, float | None) else "NAME",
    )
    default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
    annotation = Annotated.__class_getitem__((_type_of(field), option))  # type: ignore[attr-defined]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def field_meanings(kind: type[Any]) -> dict[str, str]:
    """Read what each field means out of the docstring's section ``Attributes``."""
    section = inspect.getdoc(kind) or ""
    found: dict[str, str] = {}
    name = ""
    for line in section.partition("Attributes:\n")[2].partition("\n\n")[0].splitlines():
        head, colon, rest = line.partition(":")
        if colon and head.strip().isidentifier() and len(head) - len(head.lstrip()) == 4:
            name, line = head.strip(), rest
        if name:
            found[name] = f"{found.get(name, '')} {line.strip()}".strip().replace("`", "")
    return found


def check_output(out: str, *, force: bool) -> Path:
    """Refuse an output that cannot be written or would destroy something, before any work begins.

    Args:
        out: The file (``.gguf``) or folder as it was written.
        force: Whether what smidgen wrote there before may be replaced.

    Returns:
        The path; nothing is written yet.

    Raises:
        InvalidInput: It cannot be written, or is there already.
    """
    path = Path(out).expanduser()
    other = "Choose another --out."
    if not out.strip():
        raise InvalidInput("--out names nothing.", remedy="Name a folder or a .gguf file.")
    is_file = path.suffix.lower() == ".gguf"
    if path.is_dir() and is_file:
        raise InvalidInput(f"{path} is a folder, and a file is to be written.", remedy=other)
    if path.exists() and not path.is_dir() and not is_file:
        raise InvalidInput(f"{path} is a file, and a folder is to be written.", remedy=other)
    if path.exists() and (is_file or any(path.iterdir())):
        if not is_file and not _is_ours(path):
            raise InvalidInput(f"{path} is not empty, and smidgen did not write it.", remedy=other)
        if not force:
            raise InvalidInput(f"{path} is there already.", remedy=f"{other[:-1]}, or replace it with --force.")
    require_writable(path)
    return path


def _is_ours(folder: Path) -> bool:
    from smidgen.models.checkpoint.safetensors import LINEAGE_FILE

    return (folder / LINEAGE_FILE).is_file()


def require_writable(path: Path) -> None:
    """Refuse a place that may not be written to.

    Raises:
        InvalidInput: The folder that is to hold it may not be written to.
        OutOfResources: The disk is full.
    """
    from smidgen.models.files import writing_error

    place = path.absolute().parent
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise writing_error(path, error) from error


def require_able(settings: Settings, parameters: int, out: Path) -> None:
    """Refuse a step that this machine cannot end well.

    Args:
        settings: Options of every command.
        parameters: Weights of all models that the step holds.
        out: Where the result goes.

    Raises:
        Unsupported: Another device than the CPU is asked for.
        OutOfResources: Too little memory or disk.
    """
    from smidgen.models.files import require_free

    require_memory(settings, parameters, copies=COPIES)
    require_free(out.absolute().parent, 4 * parameters)


def require_memory(settings: Settings, parameters: int, *, copies: int) -> None:
    """Refuse work that needs more memory than there is, or another device than the CPU.

    Args:
        settings: Options of every command.
        parameters: Weights of all models that are held.
        copies: How many float32 copies of them are held at once.
    """
    from smidgen import machine
    from smidgen.recipe.quantities import format_size

    require_cpu(settings)
    needed = copies * 4 * parameters + FIXED_MEMORY
    free = machine.memory()[1] if settings.max_memory is None else settings.max_memory
    if needed > free:
        allowed = "are free" if settings.max_memory is None else "are allowed by --max-memory"
        raise OutOfResources(
            f"This needs about {format_size(needed)} of memory, and {format_size(free)} {allowed}.",
            remedy="Use a smaller model or a machine with more memory.",
        )


def require_cpu(settings: Settings) -> None:
    """Refuse devices on which shrinking does not run yet."""
    if settings.device not in ("auto", "cpu"):
        raise Unsupported(
            f"Shrinking runs on the CPU, and --device {settings.device} was asked for.", remedy="Leave --device out."
        )


def find_model(name: str, settings: Settings, screen: Screen) -> tuple[LocalModel, int]:
    """Get a model onto this machine; returns it and its count of weights."""
    from smidgen.models.facts import inspect
    from smidgen.models.reference import parse
    from smidgen.models.sources import fetch
    from smidgen.models.store import Store

    store = Store()
    # What is here is only checked, file by file, which is worth a bar and not a line for each.
    quiet = screen.quiet or (os.path.exists(name) and not sys.stderr.isatty())
    with Screen(quiet=quiet).progress() as progress:
        local = fetch(parse(name, store), store, offline=settings.offline, progress=progress)
    return local, inspect(local).parameters


def save(
    model: Model,
    local: LocalModel,
    out: Path,
    *,
    gguf: bool,
    floats: bool,
    screen: Screen,
    export: Callable[[Model, Path], None] | None = None,
) -> dict[str, Any]:
    """Write a model and what must travel with it; it appears under its name only when it is whole.

    Args:
        model: The result.
        local: What it was made from.
        out: A ``.gguf`` file or a folder.
        gguf: Put a GGUF into the folder.
        floats: Put the transformers layout into the folder.
        screen: Where progress is shown.
        export: Writes the folder instead, for engines that read another layout.

    Returns:
        The result as plain data for JSON.
    """
    from smidgen.models.files import atomic_folder, make_folder, projector_beside

    make_folder(out.absolute().parent)
    with screen.progress() as progress:
        if out.suffix.lower() == ".gguf":
            _write_gguf(model, out, progress)
        else:
            with atomic_folder(out) as temporary:
                _fill(model, local, temporary, floats=floats, export=export)
                if gguf and export is None and not _stays_packed(model):
                    _write_gguf(model, temporary / GGUF, progress)
    files = [each for each in (out, projector_beside(out)) if each.is_file()] or sorted(
        path for path in out.rglob("*") if path.is_file()
    )
    step = model.lineage.steps[-1]
    return {
        "out": str(out),
        "files": [str(path) for path in files],
        "bytes": sum(path.stat().st_size for path in files if path.suffix in (".gguf", ".safetensors")),
        "parameters": model.parameter_count(),
        "source": {"name": local.name, "sha256": local.sha256},
        "step": {"operation": step.operation, **step.parameters} | ({"note": step.note} if step.note else {}),
    }


def _fill(
    model: Model, local: LocalModel, folder: Path, *, floats: bool, export: Callable[[Model, Path], None] | None
) -> None:
    """Write weights, lineage, licence and card into a folder."""
    import json
    import shutil

    from smidgen.export import packed, safetensors
    from smidgen.export.modelfile import modelfile
    from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
    from smidgen.models.files import projector_beside

    if export is not None:
        export(model, folder)
    elif _stays_packed(model) and (model.packed or (model.vision is not None and model.vision.packed)):
        packed.write(model, folder)
    elif floats:
        safetensors.write(model, folder)
    else:
        lineage = json.dumps(model.lineage.to_dict(), indent=1, sort_keys=True)
        (folder / LINEAGE_FILE).write_text(lineage + "\n", encoding="utf-8")
        sees = None if model.vision is None else projector_beside(Path(GGUF)).name
        (folder / "Modelfile").write_text(modelfile(model, file_name=GGUF, projector=sees), encoding="utf-8")
    for path in local.files:
        is_card = path.name.lower() == "readme.md"
        shutil.copyfile(path, folder / (f"source-{path.name}" if is_card else path.name))
    (folder / "README.md").write_text(card(model), encoding="utf-8")


def _write_gguf(model: Model, path: Path, progress: Progress) -> None:
    """Write a model as GGUF, and beside it what it reads images with.

    Raises:
        Unsupported: llama.cpp cannot hold one of the two.
    """
    from smidgen.export import gguf, projector
    from smidgen.models.files import projector_beside

    projector.require_writable(model)
    gguf.write(model, path, progress=progress)
    if model.vision is not None:
        projector.write(model, projector_beside(path))


def _stays_packed(model: Model) -> bool:
    """Whether only smidgen itself reads it: by its number formats, or because of what it reads images with."""
    from smidgen import formats
    from smidgen.export import projector

    stored = [*model.packed.values(), *(model.vision.packed.values() if model.vision is not None else ())]
    if any(formats.find(each.format).ggml_type is None for each in stored):
        return True
    try:
        projector.require_writable(model)
    except Unsupported:
        return True
    return False


def card(model: Model) -> str:
    """Return the model card of a result: licence, base model, and what was done."""
    import smidgen

    origin = model.lineage.origin
    header = ["---", "tags: [smidgen]"]
    header += [f"license: {origin.licence}"] if origin.licence else []
    header += [f"base_model: {origin.base_model}"] if origin.base_model else []
    steps = [
        f"- {step.operation}: {_plain(step.parameters)}{f'. {step.note}' if step.note else ''}"
        for step in model.lineage.steps
    ]
    name = origin.base_model or origin.name
    source = f"{name}, read from {origin.dequantised_from}" if origin.dequantised_from else name
    made = f"Made with smidgen {smidgen.__version__} from {source}: {model.parameter_count():,} parameters."
    return "\n".join([*header, "---", "", made, "", *steps, ""])


def _plain(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parameters.items() if isinstance(value, str | int | float))


def show(screen: Screen, data: dict[str, Any], before: int) -> None:
    """Say in a few lines what a step made.

    Args:
        screen: Where to.
        data: What `save` returned.
        before: Weights of the model that it was made from.
    """
    from smidgen.recipe.quantities import format_size

    rows = [
        ("from", data["source"]["name"]),
        ("parameters", f"{data['parameters']:,} ({data['parameters'] / max(1, before):.1%} of {before:,})"),
        ("size", format_size(data["bytes"])),
        *([("note", data["step"]["note"])] if "note" in data["step"] else []),
        ("written to", data["out"]),
    ]
    screen.table((data["step"]["operation"], ""), rows)
