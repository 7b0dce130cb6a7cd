"""``smidgen run``: talk to a model in the terminal."""

from __future__ import annotations

import io
import math
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen import registry
from smidgen.cli.options import Group, Settings, Speculate, is_given
from smidgen.cli.screen import Screen, print_json
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from smidgen.cli._conversation import Chat
    from smidgen.inference.engine import Engine, Metrics
    from smidgen.inference.options import GenerationOptions
    from smidgen.inference.setup import Setup
    from smidgen.models.sources import LocalModel

ECHO = "echo"
"""Stands for the engine that answers from the prompt, for trying programs without a model."""


@dataclass(frozen=True)
class Running:
    """What computes, and how it keeps what was read; see `smidgen.inference.engine.open_engine`."""

    engine: str = "auto"
    type_k: str | None = None
    type_v: str | None = None
    speculate: str = "auto"


@dataclass(frozen=True)
class Shown:
    """How answers are shown."""

    verbose: bool = False
    wrap: bool = True
    hide_thinking: bool = False


def sampling(
    temperature: Annotated[
        float | None, typer.Option("--temperature", metavar="N", help="0 always takes the likeliest token.")
    ] = None,
    num_predict: Annotated[
        int | None, typer.Option("--num-predict", metavar="N", help="Most tokens of an answer.")
    ] = None,
    num_ctx: Annotated[
        int | None, typer.Option("--num-ctx", metavar="N", help="Tokens that the context holds.")
    ] = None,
) -> dict[str, Any]:
    """Return the options of `smidgen.inference.options.GenerationOptions` that were given."""
    given = {"temperature": temperature, "num_predict": num_predict, "num_ctx": num_ctx}
    return {name: value for name, value in given.items() if value is not None}


def computing(
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="What computes: llama_cpp, torch, vllm, or what can.")
    ] = "auto",
    type_k: Annotated[
        str | None, typer.Option("--type-k", metavar="NAME", help="Type of the keys that llama.cpp keeps, as q8_0.")
    ] = None,
    type_v: Annotated[
        str | None, typer.Option("--type-v", metavar="NAME", help="Type of the values that llama.cpp keeps.")
    ] = None,
    speculate: Speculate = None,
) -> Running:
    """Check what is to compute.

    Raises:
        ReferenceNotFound: There is no such engine.
    """
    from smidgen.inference.engine import ENGINES
    from smidgen.inference.speculation import mode_from

    if engine != "auto":
        registry.find(ENGINES, engine)
    return Running(engine, type_k, type_v, speculate or mode_from())


def showing(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show how fast each answer was.")] = False,
    hide_thinking: Annotated[bool, typer.Option("--hidethinking", help="Show only what is said.")] = False,
    no_word_wrap: Annotated[bool, typer.Option("--nowordwrap", help="Do not break lines between words.")] = False,
) -> Shown:
    """Return how answers are shown."""
    return Shown(verbose, not no_word_wrap, hide_thinking)


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name, a made folder, or any .gguf file.")],
    settings: Settings,
    context: typer.Context,
    values: Annotated[dict[str, Any], Group(sampling)],
    running: Annotated[Running, Group(computing)],
    shown: Annotated[Shown, Group(showing)],
    prompt: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]", help="What to answer; a conversation without it.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="What the model is to be.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it stands, without a chat template.")
    ] = False,
    answer_format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="json, a JSON schema, or a file that holds one.")
    ] = None,
    think: Annotated[
        str | None, typer.Option("--think", metavar="[=LEVEL]", help="Think first: true, false, low, medium or high.")
    ] = None,
    keep_alive: Annotated[
        str | None,
        typer.Option("--keepalive", metavar="TIME", help="How long the model stays loaded between messages (5m)."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow registries without encryption.")] = False,
) -> None:
    """Answer a prompt, or hold a conversation in the terminal.

    What is piped in is the prompt, or stands before it. Models that see look at the images whose paths a prompt names,
    and at evenly sampled frames of videos. Ctrl-C stops an answer; /bye or Ctrl-D ends the conversation, /help lists
    what else it understands. Without --seed every answer is sampled anew. What the model's Modelfile says holds where
    no option here says otherwise.
    """
    from smidgen.cli._chat import Chat, Prompt, read_lines, read_think, schema_from
    from smidgen.inference.options import GenerationOptions
    from smidgen.inference.setup import Setup

    screen = Screen(settings.json, settings.quiet)
    if is_given(context, "seed"):
        values["seed"] = settings.seed
    GenerationOptions.from_mapping(values)
    text = full_prompt(" ".join(prompt or ()), piped())
    if not text and (screen.json or not sys.stdin.isatty()):
        raise InvalidInput("There is no prompt.", remedy=f"Write it behind the name: smidgen run {model} 'Why?'")
    wishes = {
        "system": system,
        "think": None if think is None else read_think(think),
        "schema": None if answer_format is None else schema_from(answer_format),
        "keep_alive": _idle_seconds(keep_alive),
    }

    def begin(name: str) -> Chat:
        local = None if name == ECHO else _find(name, settings, screen, insecure)
        setup = Setup.of(local)
        options = setup.options(values, {"num_thread": settings.threads})
        load = _opener(local, settings, screen, running, setup)
        return Chat(load, options, raw=raw, setup=setup, local=local)

    with begin(model) as chat:
        for wish, value in wishes.items():
            setattr(chat, wish, value)
        if text:
            _answer_once(chat, text, model, screen, shown)
        else:
            screen.say("Write a message; /help lists what else is understood, /bye ends.")
            read_lines(Prompt(chat, begin, **asdict(shown)))


def _idle_seconds(text: str | None) -> float | None:
    """Read how long a model stays loaded; None where that has no end."""
    from smidgen.serving.durations import seconds

    value = math.inf if text is None else seconds(text)
    return None if math.isinf(value) else value


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
    guessed = f" | {metrics.accepted_tokens:,} of {metrics.drafted_tokens:,} guesses right"
    shown = guessed if metrics.drafted_tokens else ""
    return f"load {metrics.load_seconds:.1f} s | prompt {prompt} | answer {answer}{shown}"


def _find(model: str, settings: Settings, screen: Screen, insecure: bool) -> LocalModel:
    from smidgen.export import runnable
    from smidgen.models import reference, sources
    from smidgen.models.store import Store

    # What lies on this machine is found at once: only a download is worth a report.
    quiet = screen.quiet or os.path.exists(model)
    with Screen(quiet=quiet).progress() as progress:
        if insecure and reference.parse(model).kind == "ollama":
            sources.pull(model, Store(), offline=settings.offline, insecure=True, progress=progress)
        return runnable.find(model, offline=settings.offline, progress=progress)


def _opener(
    local: LocalModel | None, settings: Settings, screen: Screen, running: Running, setup: Setup
) -> Callable[[GenerationOptions], Engine]:
    """Return what loads the model anew, for the options that take effect only then."""

    def load(options: GenerationOptions) -> Engine:
        from smidgen.export import runnable
        from smidgen.inference.engine import open_engine
        from smidgen.inference.speculation import SpeculationRequest

        path: Any = ECHO
        if local is not None:
            with screen.progress() as progress:
                path = runnable.path_of(local, engine=running.engine, progress=progress)
        threads = options.num_thread or settings.threads
        depth = None if local is None else local.depth
        return open_engine(
            path,
            threads=threads,
            context=options.num_ctx,
            depth=depth,
            adapters=setup.adapters,
            projector=setup.projector,
            engine=running.engine,
            type_k=running.type_k,
            type_v=running.type_v,
            speculation=SpeculationRequest(running.speculate, setup.draft, options.draft_num_predict),
        )

    return load


def _answer_once(chat: Chat, text: str, model: str, screen: Screen, shown: Shown) -> None:
    from smidgen.cli import _answers
    from smidgen.cli._pictures import take_out

    collected = io.StringIO() if screen.json else None
    hide = shown.hide_thinking or (screen.json and chat.think is not None)
    text, images = take_out(chat, text, screen.say)
    last = _answers.show(chat, text, images, wrap=shown.wrap, hide_thinking=hide, stream=collected)
    metrics = last.metrics if last is not None else None
    if collected is not None:
        figures = asdict(metrics) if metrics else None
        reason = last.reason if last else None
        print_json({"model": model, "response": collected.getvalue(), "reason": reason, "metrics": figures})
        return
    sys.stdout.write("\n")
    if shown.verbose and metrics is not None:
        Screen().say(describe_metrics(metrics))
