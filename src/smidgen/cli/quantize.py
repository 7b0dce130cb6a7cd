"""``smidgen quantize``: store a model's weights in fewer bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli import _step, _streaming
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput
from smidgen.recipe.quantities import parse_size
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.verbs import CONTEXT

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.models.sources import LocalModel
    from smidgen.progress import Progress


Format = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="Format of all matrices, as q4_0 or integer:bits=4,group=32."),
]
Fit = Annotated[
    str | None,
    typer.Option("--fit", metavar="SIZE", help="Largest size of the file (80MB); each matrix gets its own format."),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="What running it may take (250MB): file, context and engine."),
]
Context = Annotated[int, typer.Option("--context", metavar="N", min=1, help="With --memory: tokens counted in.")]
EmbeddingFormat = Annotated[
    str | None, typer.Option("--embedding-format", metavar="NAME", help="Another format for the embedding.")
]
HeadFormat = Annotated[
    str | None, typer.Option("--head-format", metavar="NAME", help="Another format for the head, where it is its own.")
]
Search = Annotated[
    int,
    typer.Option("--search", metavar="N", min=0, help="With a size: try N other mixes of formats near the best."),
]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Read the model from disk block by block; a stopped run goes on.",
        show_default="where it does not fit in memory",
    ),
]
Export = Annotated[
    str | None,
    typer.Option("--export", metavar="NAME", help="compressed-tensors: a folder for vLLM, with --format."),
]


@_step.with_fields(Quantize, without=("formats", "default"))
def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a folder or a .gguf file.")],
    out: Annotated[str, typer.Option("--out", metavar="PLACE", help="A .gguf file, or a folder for it.")],
    options: dict[str, Any],
    settings: Settings,
    number_format: Format = None,
    fit: Fit = None,
    memory: Memory = None,
    context: Context = CONTEXT,
    embedding_format: EmbeddingFormat = None,
    head_format: HeadFormat = None,
    search: Search = 0,
    data: _step.For = None,
    images: _step.Images = None,
    windows: _step.Windows = 24,
    stream: Stream = None,
    export: Export = None,
    force: _step.Force = False,
) -> None:
    """Store a model's weights in fewer bits, as a GGUF that any llama.cpp program runs.

    Formats that GGUF has no place for (integer, kmeans …) are written as a folder that smidgen reads, or with
    --export compressed-tensors as one that vLLM reads: integer:bits=4,group=128 (W4A16), integer:bits=8,group=0 (W8A8)
    and float8 (FP8).

    With a --format of less than 3 bits per weight (vector, ternary, binary, q2_k …) embedding and head are stored in
    Q8_0, since little is left of a model without them; --embedding-format and --head-format say otherwise.

    For example: smidgen quantize smollm2:135m --fit 80MB --out small.gguf
    """
    from smidgen import formats, verbs

    screen = Screen(settings.json, settings.quiet)
    ends = (embedding_format, head_format)
    _check_request(number_format, {"--fit": fit, "--memory": memory}, ends, search, options)
    if options["static_activations"]:
        _require_scales_kept(number_format, export)
    path = _step.check_output(out, force=force)
    writer = None if export is None else _writer(export, number_format, (*ends, images), path)
    if path.suffix.lower() == ".gguf":
        for name in filter(None, (number_format, *ends)):
            formats.find(name).require_ggml_type()
    local, before = _step.find_model(model, settings, screen)
    own = any(formats.find(name).ggml_type is None for name in (number_format, *ends) if name)
    able = number_format is not None and (not own or writer is not None)
    streams = _streaming.wanted(stream, settings, local, before, able=able)
    with _streaming.work_folder(path) if streams else nullcontext() as work:
        with screen.progress() as progress:
            source = _opened(local, settings, path, (before, windows, options["solver"]), work, progress)
            result = verbs.quantize(
                source,
                format=number_format,
                fit=fit,
                memory=memory,
                context=context,
                embedding_format=embedding_format,
                head_format=head_format,
                search=search,
                export=export,
                data=data,
                images=images,
                windows=windows,
                work=work,
                seed=settings.seed,
                offline=settings.offline,
                progress=progress,
                **options,
            )
        made = _step.save(result, local, path, gguf=True, floats=False, screen=screen, export=writer)
    screen.result(made, lambda: _step.show(screen, made, before))


def _check_request(
    number_format: str | None,
    sizes: Mapping[str, str | None],
    ends: Sequence[str | None],
    search: int,
    options: Mapping[str, Any],
) -> None:
    """Refuse what cannot be meant before the model is read.

    Raises:
        InvalidInput: Not exactly one of format and sizes is given, or a search without a size.
        RecipeError: An option is out of range.
    """
    from smidgen.recipe.storing import block_format

    given = {name: size for name, size in sizes.items() if size is not None}
    if (number_format is not None) + len(given) != 1:
        raise InvalidInput(
            "Quantizing needs one of --format, --fit and --memory.", remedy="As in: --format q4_0, or --fit 80MB."
        )
    if search and not given:
        raise InvalidInput("--search needs a size to keep within.", remedy="Give --fit 80MB, or leave --search out.")
    for name in (number_format, *ends):
        if name is not None:
            block_format(name)
    for name, size in given.items():
        parse_size(size, name=name)
    Quantize(**options)


def _require_scales_kept(number_format: str | None, export: str | None) -> None:
    """Refuse to look for scales of activations that the result has no place for."""
    from smidgen import formats

    if export is None and number_format is not None and formats.find(number_format).ggml_type is None:
        return
    raise InvalidInput(
        f"{'A GGUF' if export is None else export} keeps no scales of activations.",
        remedy="Leave --static-activations out, or take --format integer:group=0.",
    )


def _writer(
    name: str, number_format: str | None, others: Sequence[str | None], out: Path
) -> Callable[[Model, Path], None]:
    """Return what writes a result for other engines, after making sure that it can."""
    from smidgen.errors import ReferenceNotFound
    from smidgen.export import compressed_tensors

    if name != compressed_tensors.NAME:
        raise ReferenceNotFound.among("export", name, [compressed_tensors.NAME])
    if number_format is None or any(others):
        raise InvalidInput(
            f"{name} stores the blocks in one format and nothing else.",
            remedy="Give --format, without --fit, --embedding-format, --head-format and --images.",
        )
    if out.suffix.lower() == ".gguf":
        raise InvalidInput(f"{name} is a folder, and {out} a GGUF.", remedy="Name a folder with --out.")
    compressed_tensors.require_format(number_format)
    return compressed_tensors.write


def _opened(
    local: LocalModel, settings: Settings, out: Path, task: tuple[int, int, str], work: Path | None, progress: Progress
) -> Model:
    """Load a model, or open it to be read block by block, after making sure that what follows can end well."""
    from smidgen.export import projector
    from smidgen.models.load import load_local
    from smidgen.models.streamed import open_local
    from smidgen.recipe.gathering import WINDOW_LENGTH

    parameters, windows, solver = task
    if work is None:
        _step.require_able(settings, parameters, out)
        loaded = load_local(local, progress=progress)
        if out.suffix.lower() == ".gguf":
            projector.require_writable(loaded)
        return loaded
    model = open_local(local)
    _streaming.require_able(settings, model, windows * WINDOW_LENGTH, solver, out)
    return model
