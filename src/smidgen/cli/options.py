"""Options that every command has, or several share, and how they are applied to the process before any work begins."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from smidgen.errors import InvalidInput
from smidgen.recipe.quantities import parse_size

_PANEL = "Everywhere"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=_PANEL)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.", rich_help_panel=_PANEL)]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="CPU threads to compute with.",
        show_default="the physical cores",
        rich_help_panel=_PANEL,
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=_PANEL)
]
MaxMemory = Annotated[
    str | None,
    typer.Option("--max-memory", metavar="SIZE", help="Memory to stay within (8GB).", rich_help_panel=_PANEL),
]
Offline = Annotated[bool, typer.Option("--offline", help="Use only what is on this machine.", rich_help_panel=_PANEL)]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of all chance.", rich_help_panel=_PANEL)]

Speculate = Annotated[
    str | None,
    typer.Option(
        "--speculate",
        metavar="MODE",
        help="Guess tokens ahead: auto (where it was measured to help), off, ngram, draft.",
        show_default="auto",
    ),
]
"""Of the commands that let a model write."""


def default_threads() -> int:
    """Return how many threads to compute with where nobody says: ``OMP_NUM_THREADS``, else the physical cores."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    from smidgen import machine

    return machine.cores()[0]


@dataclass(frozen=True)
class Settings:
    """What the options of every command say.

    Attributes:
        json: Print the result as JSON.
        quiet: Show no progress.
        threads: CPU threads to compute with.
        device: "auto", "cpu", "mps", "cuda" or "cuda:N".
        max_memory: Bytes of memory to stay within, None for what the machine has.
        offline: Reach no network.
        seed: Seed of all chance.
    """

    json: bool = False
    quiet: bool = False
    threads: int = field(default_factory=default_threads)
    device: str = "auto"
    max_memory: int | None = None
    offline: bool = False
    seed: int = 0


def everywhere(
    json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
    device: Device = "auto",
    max_memory: MaxMemory = None,
    offline: Offline = False,
    seed: Seed = 0,
) -> Settings:
    """Check the options that every command has.

    Raises:
        InvalidInput: A value is out of range or cannot be understood.
    """
    if threads is not None and not 1 <= threads <= 1024:
        raise InvalidInput(f"--threads {threads} is not possible.", remedy="Give a number from 1 to 1024.")
    if not _DEVICE.fullmatch(device):
        raise InvalidInput(f"--device {device!r} is unknown.", remedy="Known: auto, cpu, cuda, cuda:1, mps.")
    if not 0 <= seed < 2**63:
        raise InvalidInput(f"--seed {seed} is out of range.", remedy="Give a number from 0 to 9223372036854775807.")
    return Settings(
        json=json,
        quiet=quiet,
        threads=threads or default_threads(),
        device=device,
        max_memory=None if max_memory is None else parse_size(max_memory, name="--max-memory"),
        offline=offline,
        seed=seed,
    )


@dataclass(frozen=True)
class Group:
    """Options that belong together, as a command takes them: ``Annotated[Asked, Group(asked)]``.

    Attributes:
        read: Takes the options, each as a parameter of its own, and returns what they ask for together.
    """

    read: Callable[..., Any]


def is_given(context: typer.Context, name: str) -> bool:
    """Say whether an option was written on the command line, so that its default can differ between commands."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `everywhere`, passed to it as one ``settings``, and those of every `Group`.

    The process is prepared before the command begins. A command without a parameter ``settings`` is returned as
    it is.
    """
    own = inspect.signature(command, eval_str=True).parameters
    if "settings" not in own:
        return command
    shared = inspect.signature(everywhere, eval_str=True).parameters
    groups = {name: group for name, each in own.items() if (group := _group(each)) is not None}
    members = {name: inspect.signature(group.read, eval_str=True).parameters for name, group in groups.items()}
    mine = [
        each
        for name, written in own.items()
        if name != "settings"
        for each in (members[name].values() if name in groups else (written,))
    ]
    both = [*mine, *_without_taken(mine, list(shared.values()))]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in both]

    @functools.wraps(command)
    def prepared(**values: Any) -> Any:
        settings = everywhere(**{name: values.pop(name) for name in shared})
        prepare_process(settings)
        for name, group in groups.items():
            values[name] = group.read(**{each: values.pop(each) for each in members[name]})
        return command(settings=settings, **values)

    prepared.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    prepared.__annotations__ = {each.name: each.annotation for each in parameters}
    return prepared


def _group(parameter: inspect.Parameter) -> Group | None:
    """Return the group of options that a parameter stands for; None where it is an option itself."""
    details = getattr(parameter.annotation, "__metadata__", ())
    return next((each for each in details if isinstance(each, Group)), None)


def _without_taken(own: list[inspect.Parameter], shared: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return the shared parameters without the short names that a command gives to options of its own."""
    taken = {name for each in own for name in _names(each) if not name.startswith("--")}

    def freed(each: inspect.Parameter) -> inspect.Parameter:
        if not taken & {*_names(each)}:
            return each
        kind, option, *rest = typing.get_args(each.annotation)
        option = copy.copy(option)
        option.param_decls = tuple(name for name in option.param_decls if name not in taken)
        return each.replace(annotation=Annotated[(kind, option, *rest)])

    return [freed(each) for each in shared]


def _names(parameter: inspect.Parameter) -> tuple[str, ...]:
    """Return the names that an option has on the command line, where it gives them itself."""
    details = typing.get_args(parameter.annotation)[1:]
    return next((tuple(each.param_decls or ()) for each in details if hasattr(each, "param_decls")), ())


def prepare_process(settings: Settings) -> None:
    """Apply what must stand before torch and the hub's library are imported.

    The thread count, threads that do not spin for long, no telemetry of libraries, and no network where offline.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads that spin while they wait starve everything else on a busy machine, and each other.
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = str(settings.threads)
    if settings.offline:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(settings.threads)
