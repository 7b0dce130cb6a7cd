"""The entry of the command line: finds the commands, runs one, and turns every error into a clear message.

A command is one file in this folder, named like the command, that holds a function ``command``. Its docstring is
the help, its parameters are the options; a parameter ``settings: Settings`` brings the options that every command
has. Files that begin with ``_`` and the three of `FOUNDATION` are no commands. A folder is a command that has
commands of its own; the docstring of the folder is its help, and where its commands are no files it has
``names`` that lists them and ``command_of`` that makes one.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import pkgutil
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from smidgen.cli.options import with_settings
from smidgen.cli.screen import show_error
from smidgen.errors import Interrupted, InvalidInput, OutOfResources, ReferenceNotFound, SmidgenError

FOUNDATION = frozenset({"main", "options", "screen"})
"""Files of this folder that are no commands."""

BROKEN_PIPE = 141
"""Exit code when the reader of stdout went away: what a shell reports for a program ended by SIGPIPE."""

_BARE = {"--think": "--think=true"}

_FULL_DISK = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class InternalFault(SmidgenError):
    """A fault of smidgen itself; its traceback lies in a log file."""

    exit_code = 1


def command_names(group: str = "") -> list[str]:
    """List the commands, without importing any; those of a command that has its own where one is named."""
    made = getattr(_package(group), "names", None)
    if made is not None:
        return list(made())
    folder = Path(__file__).parent / group.replace("-", "_")
    files = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return sorted(name.replace("_", "-") for name in files if name not in FOUNDATION and not name.startswith("_"))


def _package(group: str) -> Any:
    """Return the folder of a command that has commands of its own; of the outermost one this file's own."""
    return importlib.import_module(f"smidgen.cli.{group}".rstrip(".").replace("-", "_"))


class CommandGroup(TyperGroup):
    """Imports a command's file when the command is asked for."""

    folder = ""
    """The command whose own commands these are; empty for the outermost."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """List the commands for help and completion."""
        return command_names(self.folder)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        """Build one command from its file, or one that has commands of its own from its folder."""
        known = command_names(self.folder)
        if cmd_name not in known:
            raise ReferenceNotFound.among("command", f"{self.folder} {cmd_name}".strip(), known)
        maker = getattr(_package(self.folder), "command_of", None)
        if maker is not None:
            return as_command(cmd_name, maker(cmd_name))
        place = ".".join(part for part in ("smidgen.cli", self.folder, cmd_name) if part)
        module = importlib.import_module(place.replace("-", "_"))
        if hasattr(module, "__path__"):
            kind = type("OwnCommands", (CommandGroup,), {"folder": cmd_name})
            own = typer.Typer(name=cmd_name, cls=kind, add_completion=False, invoke_without_command=True)
            own.callback(help=module.__doc__)(_show_help)
            return _flags_without_type(typer.main.get_command(own))
        return as_command(cmd_name, module.command)


def as_command(name: str, function: Callable[..., Any]) -> Any:
    """Build the command of one function."""
    single = typer.Typer(add_completion=False)
    single.command(name, help=flowing(function.__doc__ or ""))(with_settings(function))
    return _flags_without_type(typer.main.get_command(single))


def flowing(text: str) -> str:
    r"""Return a docstring with every paragraph in one line, so that a terminal breaks it where it is wide enough.

    Paragraphs with lines that begin with white space or a dash stay as they are.

    Example:
        >>> flowing("Do it.\n\n    It takes\n    long.\n\n    - a\n    - b\n    ")
        'Do it.\n\nIt takes long.\n\n- a\n- b'
    """
    paragraphs = re.split(r"\n\n|\n(?=For example:)", inspect.cleandoc(text))
    return "\n\n".join(
        each if re.search(r"^(\s|- )", each, re.MULTILINE) else " ".join(each.split()) for each in paragraphs
    )


def _show_help(context: typer.Context) -> None:
    """Show what there is to choose from where nothing was chosen."""
    if context.invoked_subcommand is None:
        sys.stdout.write(f"{context.get_help()}\n")


app = typer.Typer(
    name="smidgen",
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import smidgen

        sys.stdout.write(f"smidgen {smidgen.__version__}\n")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Makes small language models out of big ones, proves what was kept, and runs them anywhere."""


def root_command() -> Any:
    """Build the command of which all others are parts, for running it and for writing the documentation."""
    return _flags_without_type(typer.main.get_command(app))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: The words after ``smidgen``; those of the process where None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except (BrokenPipeError, SystemExit) as ending:
        if isinstance(ending, SystemExit) and not isinstance(ending.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE


def _run(words: list[str]) -> int:
    words = _spelled_out(words)
    try:
        command = root_command()
        if "_SMIDGEN_COMPLETE" in os.environ:
            command.main(words, prog_name="smidgen")
        with command.make_context("smidgen", words or ["--help"]) as context:
            command.invoke(context)
        return 0
    except typer.Exit as ending:
        return ending.exit_code
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as fault:
        error = _as_error(fault)
        show_error(error, as_json="--json" in words[: words.index("--") if "--" in words else None])
        return error.exit_code


def _spelled_out(words: list[str]) -> list[str]:
    """Give options their value that are known by the same name with and without one.

    Example:
        >>> _spelled_out(["run", "small", "--think", "Why?", "--", "--think"])
        ['run', 'small', '--think=true', 'Why?', '--', '--think']
    """
    end = words.index("--") if "--" in words else len(words)
    return [_BARE.get(word, word) for word in words[:end]] + words[end:]


def _flags_without_type(command: Any) -> Any:
    """Keep help from showing a type beside options that take no value."""
    for parameter in command.params:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return command


def _as_error(fault: BaseException) -> SmidgenError:
    """Turn whatever went wrong into an error for a person."""
    if isinstance(fault, SmidgenError):
        return fault
    if isinstance(fault, KeyboardInterrupt | typer.Abort):
        return Interrupted("interrupted; the same command resumes")
    if isinstance(fault, typer.TyperException):
        context = getattr(fault, "ctx", None)
        return InvalidInput(fault.format_message(), remedy=f"See: {context.command_path} --help" if context else None)
    if isinstance(fault, MemoryError):
        return OutOfResources("There is not enough memory.", remedy="Use a smaller model or a larger machine.")
    if isinstance(fault, OSError) and fault.errno in _FULL_DISK:
        return OutOfResources(f"The disk is full{_place(fault)}.", remedy="Free some space; the same command resumes.")
    if isinstance(fault, OSError) and fault.errno in _FORBIDDEN:
        return InvalidInput(
            f"The system does not allow it{_place(fault)}: {fault.strerror}.", remedy="Choose a place you may write to."
        )
    return _internal_fault(fault)


def _place(fault: OSError) -> str:
    return f" at {os.fspath(fault.filename)!r}" if isinstance(fault.filename, str | os.PathLike) else ""


def _internal_fault(fault: BaseException) -> InternalFault:
    report = "".join(traceback.format_exception(fault))
    if os.environ.get("SMIDGEN_DEBUG") == "1":
        sys.stderr.write(report)
    return InternalFault(
        f"internal fault: {type(fault).__name__}: {fault}",
        remedy=f"This is a fault of smidgen, not yours. The traceback is in {_write_log(report)}",
    )


def _write_log(report: str) -> Path:
    """Write a traceback to the user's log folder, or to the folder for temporary files where that cannot be."""
    import platformdirs

    name = f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for folder in (platformdirs.user_log_path("smidgen", appauthor=False), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / name
            path.write_text(report, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    sys.stderr.write(report)
    return Path(os.devnull)
