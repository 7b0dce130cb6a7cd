"""``smidgen run``: talk to a model in the terminal."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen import registry
from smidgen.cli.options import Settings, is_given
from smidgen.cli.screen import Screen, print_json
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from smidgen.inference.engine import Engine, Metrics
    from smidgen.inference.options import GenerationOptions
    from smidgen.models.sources import LocalModel

ECHO = "echo"
"""Stands for the engine that answers from the prompt, for trying programs without a model."""


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a made folder, or any .gguf file.")],
    settings: Settings,
    context: typer.Context,
    prompt: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]", help="What to answer; a conversation without it.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="What the model is to be.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="N", help="0 always takes the likeliest token.")
    ] = None,
    num_predict: Annotated[
        int | None, typer.Option("--num-predict", metavar="N", help="Most tokens of an answer.")
    ] = None,
    num_ctx: Annotated[
        int | None, typer.Option("--num-ctx", metavar="N", help="Tokens that the context holds.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it stands, without a chat template.")
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="What computes: llama_cpp, torch, or the one that can.")
    ] = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", help="Show how fast each answer was.")] = False,
) -> None:
    """Answer a prompt, or hold a conversation in the terminal.

    What is piped in is the prompt, or stands before it. Ctrl-C stops an answer; /bye or Ctrl-D ends the
    conversation, /help lists what else it understands. Without --seed every answer is sampled anew.
    """
    from smidgen.cli._chat import Chat, read_lines
    from smidgen.inference.engine import ENGINES
    from smidgen.inference.options import GenerationOptions

    screen = Screen(settings.json, settings.quiet)
    given = {"temperature": temperature, "num_predict": num_predict, "num_ctx": num_ctx}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if is_given(context, "seed"):
        values["seed"] = settings.seed
    options = GenerationOptions.from_mapping({"num_thread": settings.threads, **values})
    text = full_prompt(" ".join(prompt or ()), piped())
    if not text and (screen.json or not sys.stdin.isatty()):
        raise InvalidInput("There is no prompt.", remedy=f"Write it behind the name: smidgen run {model} 'Why?'")
    if engine != "auto":
        registry.find(ENGINES, engine)
    local = None if model == ECHO else _find(model, settings, screen)
    with Chat(_opener(local, settings, screen, engine), options, system=system, raw=raw) as chat:
        if text:
            _answer_once(chat, text, model, screen, verbose)
        else:
            screen.say("Write a message; /help lists what else is understood, /bye ends.")
            read_lines(chat, local, verbose=verbose)


def full_prompt(words: str, stream: str) -> str:
    r"""Join what was piped in and what was written.

    Example:
        >>> full_prompt("Sum it up.", "A long text.\n")
        'A long text.\n\nSum it up.'
    """
    return "\n\n".join(part for part in (stream.strip("\n"), words) if part.strip())


def piped() -> str:
    """Read what was piped in or redirected from a file; nothing from a terminal, a device or a socket."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (io.UnsupportedOperation, ValueError, OSError):
        return sys.stdin.read() if isinstance(sys.stdin, io.StringIO) else ""
    return sys.stdin.read() if stat.S_ISFIFO(mode) or stat.S_ISREG(mode) else ""


def describe_metrics(metrics: Metrics) -> str:
    """Say in one line what an answer took."""

    def rate(tokens: int, seconds: float) -> str:
        return f"{tokens:,} tokens" + (f", {tokens / seconds:,.1f} tok/s" if seconds > 0 else "")

    prompt = rate(metrics.prompt_tokens, metrics.prompt_seconds)
    answer = rate(metrics.generated_tokens, metrics.generation_seconds)
    return f"load {metrics.load_seconds:.1f} s | prompt {prompt} | answer {answer}"


def _find(model: str, settings: Settings, screen: Screen) -> LocalModel:
    from smidgen.export import runnable

    # What lies on this machine is found at once: only a download is worth a report.
    quiet = screen.quiet or os.path.exists(model)
    with Screen(quiet=quiet).progress() as progress:
        return runnable.find(model, offline=settings.offline, progress=progress)


def _opener(
    local: LocalModel | None, settings: Settings, screen: Screen, engine: str
) -> Callable[[GenerationOptions], Engine]:
    """Return what loads the model anew, for the options that take effect only then."""

    def load(options: GenerationOptions) -> Engine:
        from smidgen.export import runnable
        from smidgen.inference.engine import open_engine

        path: Any = ECHO
        if local is not None:
            with screen.progress() as progress:
                path = runnable.path_of(local, engine=engine, progress=progress)
        threads = options.num_thread or settings.threads
        depth = None if local is None else local.depth
        return open_engine(path, engine=engine, threads=threads, context=options.num_ctx, depth=depth)

    return load


def _answer_once(chat: Any, text: str, model: str, screen: Screen, verbose: bool) -> None:
    from dataclasses import asdict

    answer, last = "", None
    for chunk in chat.answer(text):
        answer += chunk.text
        if not screen.json:
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
        last = chunk
    metrics = last.metrics if last is not None else None
    if screen.json:
        figures = asdict(metrics) if metrics else None
        print_json({"model": model, "response": answer, "reason": last.reason if last else None, "metrics": figures})
        return
    sys.stdout.write("\n")
    if verbose and metrics is not None:
        Screen().say(describe_metrics(metrics))
