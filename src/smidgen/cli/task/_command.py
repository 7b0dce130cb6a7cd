"""One task as a command: its fields are its options; it reads an argument, a file or what is piped in."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from smidgen import tasks
from smidgen.cli import _step
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen, print_json
from smidgen.cli.task import _batch, _training
from smidgen.cli.task._batch import Files
from smidgen.cli.task._training import Wishes
from smidgen.data.records import SUFFIXES
from smidgen.errors import InvalidInput
from smidgen.tasks.task import LanguageModel, Task, kind_of

_TRAINING = "Training"


def _option(*names: str, about: str, metavar: str | None = "FILE", panel: str | None = None) -> Any:
    return typer.Option(*names, metavar=metavar, help=about, rich_help_panel=panel)


def _shared(
    model: Annotated[
        str | None,
        _option("--model", metavar="MODEL", about="Who does it; the specialised model, else smollm2:135m."),
    ] = None,
    input_file: Annotated[
        str | None, _option("--input", about="A text, or rows (.csv, .jsonl) for each of which it is done.")
    ] = None,
    out: Annotated[str | None, _option("--out", about="Where results go; stdout without it.")] = None,
    field: Annotated[str, _option("--field", metavar="NAME", about="Field of the rows that holds the text.")] = "text",
    force: Annotated[bool, _option("--force", metavar=None, about="Replace a file that is there already.")] = False,
    context: Annotated[int | None, _option("--num-ctx", metavar="N", about="Tokens that the context holds.")] = None,
) -> None:
    """The options of every task."""


def _taught(
    train: Annotated[
        str | None,
        _option("--train", about="Make the task's own model of rows with the right answer.", panel=_TRAINING),
    ] = None,
    calibrate: Annotated[
        str | None,
        _option("--calibrate", about="Fit the confidence to rows with labels, without training.", panel=_TRAINING),
    ] = None,
    name: Annotated[
        str | None,
        _option("--name", metavar="NAME", about="Name of that model; of task and file without it.", panel=_TRAINING),
    ] = None,
    fit: Annotated[
        str | None, _option("--fit", metavar="SIZE", about="Largest size of its file (60MB).", panel=_TRAINING)
    ] = None,
    within: Annotated[
        str | None, _option("--within", metavar="TIME", about="Time for making it fit (10m).", panel=_TRAINING)
    ] = None,
    epochs: Annotated[float, _option("--epochs", metavar="N", about="Times the rows are read.", panel=_TRAINING)] = 2.0,
    learning_rate: Annotated[float, _option("--learning-rate", metavar="N", about="Its peak.", panel=_TRAINING)] = 1e-3,
    method: Annotated[
        str,
        _option("--method", metavar="NAME", about="lora, dora, qlora: an adapter; full: all weights.", panel=_TRAINING),
    ] = "lora",
    batch_size: Annotated[
        int, _option("--batch-size", metavar="N", about="Packed rows of 256 tokens per step.", panel=_TRAINING)
    ] = 4,
    upper: Annotated[
        float,
        _option("--upper", metavar="P", about="Share of the blocks, from the last, that is trained.", panel=_TRAINING),
    ] = 0.5,
    train_rows: Annotated[
        int | None,
        _option(
            "--train-rows", metavar="N", about="Train on so many at most, evenly over the labels.", panel=_TRAINING
        ),
    ] = None,
    held_out: Annotated[
        float, _option("--held-out", metavar="P", about="Share of the rows that is measured on.", panel=_TRAINING)
    ] = 0.2,
) -> None:
    """The options of tasks that can be specialised."""


def command_of(name: str) -> Callable[..., Any]:
    """Return the function of one task's command, its signature made of the task's fields."""
    kind = tasks.find(name)
    own = [_parameter(field, _step.field_meanings(kind).get(field.name, "")) for field in _settable(kind)]
    shared = list(inspect.signature(_shared, eval_str=True).parameters.values())
    taught = list(inspect.signature(_taught, eval_str=True).parameters.values()) if kind.taught_by else []
    text = inspect.Parameter(
        "text",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            list[str] | None, typer.Argument(metavar="[TEXT]", help="What it is done for; - for stdin.")
        ],
    )
    settings = inspect.Parameter("settings", inspect.Parameter.KEYWORD_ONLY, annotation=Settings)

    def command(**values: Any) -> None:
        given = {field.name: values[field.name] for field in _settable(kind)}
        seeded = {"seed": values["settings"].seed} if "seed" in kind.__dataclass_fields__ else {}
        wishes = Wishes(**{each.name: values[each.name] for each in taught})
        files = Files(values["input_file"], values["out"], values["field"], values["force"])
        words = " ".join(values["text"] or ())
        _perform(name, _changed(kind, given) | seeded, words, files, wishes, values)

    parameters = [text, *own, *shared, *taught, settings]
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    command.__doc__ = about(kind)
    return command


def about(kind: type[Task]) -> str:
    """Return what a task's docstring says before its fields."""
    return (inspect.getdoc(kind) or "").partition("\n\nAttributes:")[0]


def listed(value: str) -> tuple[str, ...]:
    """Read a list as a person writes it: between commas, or a file with one a line or a row.

    Example:
        >>> listed("spam, ham")
        ('spam', 'ham')
    """
    path = Path(value).expanduser()
    if "," not in value and path.is_file():
        if path.suffix.lower() in SUFFIXES:
            from smidgen.data.records import read_records

            return tuple(record.text("text", "title", "name", "item").strip() for record in read_records(path))
        return tuple(line.strip() for line in _batch.read_text(value).splitlines() if line.strip())
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _settable(kind: type[Task]) -> list[dataclasses.Field[Any]]:
    """Return the fields that become options; the seed is one of every command's."""
    return [field for field in dataclasses.fields(kind) if kind_of(field) is not None and field.name != "seed"]


def _parameter(field: dataclasses.Field[Any], meaning: str) -> inspect.Parameter:
    if kind_of(field) != "list":
        return _step.parameter_of(field, meaning)
    default = ", ".join(field.default) if isinstance(field.default, tuple) else ""
    option = typer.Option(
        f"--{field.name.replace('_', '-')}", metavar="A,B", help=f"{meaning} Or a file.", show_default=default or False
    )
    annotation = Annotated.__class_getitem__((str | None, option))  # type: ignore[attr-defined]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _changed(kind: type[Task], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were said: those that differ from the defaults."""
    found = {}
    for field in _settable(kind):
        value = given[field.name]
        if kind_of(field) == "list":
            value = field.default if value is None else listed(value)
        if value != field.default:
            found[field.name] = value
    return found


def _perform(
    name: str, options: Mapping[str, Any], words: str, files: Files, wishes: Wishes, values: Mapping[str, Any]
) -> None:
    settings: Settings = values["settings"]
    screen = Screen(settings.json, settings.quiet)
    task = tasks.build(name, options)
    wishes.checked(task)
    if wishes.data is not None:
        _training.make(name, task, wishes, values["model"], settings, screen)
        return
    files.checked()
    text = "" if files.rows else _text(words, files, task)
    talk = not text and task.converses and not files.rows and sys.stdin.isatty() and not screen.json
    if not text and not talk and not files.rows and task.needs_text():
        raise InvalidInput("There is no text.", remedy=f"As in: smidgen task {name} 'A text', or --input FILE.")
    from smidgen.tasks import profile
    from smidgen.tasks.opened_model import OpenedModel

    chosen = values["model"] or profile.default_model(name, task)
    with screen.progress() as progress:
        opened = OpenedModel(
            chosen, threads=settings.threads, context=values["context"], offline=settings.offline, progress=progress
        )
    with opened as model:
        task = profile.applied(name, task, model.facts)
        if files.rows:
            _batch.run(task, files, model, screen)
        elif talk:
            _converse(task, model)
        else:
            _once(task, text, model, files, screen)


def _text(words: str, files: Files, task: Task) -> str:
    """Return the text: what was written, what the file holds, or what is piped in."""
    if words and words != "-":
        if files.source is not None:
            raise InvalidInput("Both a text and --input were given.", remedy="Give one of them.")
        return words
    if files.source is not None:
        return _batch.read_text(files.source)
    from smidgen.cli.run import piped

    return sys.stdin.read() if words == "-" else piped().strip("\n")


def _once(task: Task, text: str, model: LanguageModel, files: Files, screen: Screen) -> None:
    """Do a task for one text; what is written is shown as it comes."""
    if screen.json or files.out is not None:
        result = task.done(text, model)
        if files.out is not None:
            from smidgen.models.files import atomic_write

            atomic_write(Path(files.out).expanduser(), task.whole(result) + "\n")
        if screen.json:
            print_json(result)
        return
    result = _shown(task, text, model)
    rest = task.shown(result)
    if rest:
        screen.text(rest)


def _shown(task: Task, text: str, model: LanguageModel) -> dict[str, Any]:
    from smidgen.cli._answers import Wrapper, terminal_width

    wrapper = Wrapper(sys.stdout, terminal_width(sys.stdout))
    working, written = task.run(text, model), False
    while True:
        try:
            wrapper.write(next(working))
            written = True
        except StopIteration as end:
            wrapper.finish()
            if written:
                sys.stdout.write("\n")
            result: dict[str, Any] = end.value
            return result


def _converse(task: Task, model: LanguageModel) -> None:
    """Hold a conversation until an empty line or the end of what is typed."""
    while True:
        try:
            line = input(">>> ").strip()
        except EOFError:
            sys.stdout.write("\n")
            return
        if line in ("", "/bye"):
            return
        result = _shown(task, line, model)
        task = dataclasses.replace(task, remembered=result["memory"])  # type: ignore[call-arg]
