"""``smidgen measure``: quality, speed, memory and size of finished models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli import _curves, _tasks, _weaknesses
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput, ReferenceNotFound

if TYPE_CHECKING:
    from smidgen.evaluate.measure import Measurement
    from smidgen.evaluate.respondents import Engine
    from smidgen.evaluate.speed import Speed


_Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Names, made folders, .gguf files, addresses of servers."),
]
_Against = Annotated[str | None, typer.Option("--against", metavar="MODEL", help="The model they were made from.")]
_Text = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="FILE", help="Text to measure on; may be repeated.", show_default="built-in"),
]
_Windows = Annotated[int, typer.Option("--windows", metavar="N", help="Windows of 512 tokens of each text.")]
_Speed = Annotated[bool, typer.Option("--speed/--no-speed", help="Measure speed as well.")]
_Activations = Annotated[
    str | None,
    typer.Option("--activations", metavar="NAME", help="Format to round what every layer reads to, in torch."),
]
_Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="What scores them: llama_cpp, or torch in float32.",
        show_default="llama_cpp for GGUF files",
        rich_help_panel=_tasks.PANEL,
    ),
]
_Price = Annotated[
    float | None,
    typer.Option(
        "--price", metavar="AMOUNT", help="Price of this machine per hour, to say what a million tokens cost."
    ),
]


def command(
    models: _Models,
    settings: Settings,
    *,
    against: _Against = None,
    text: _Text = None,
    windows: _Windows = 8,
    speed: _Speed = True,
    price: _Price = None,
    activations: _Activations = None,
    engine: _Engine = "auto",
    tasks: _tasks.Options,
    weak: _weaknesses.Options,
    curves: _curves.Options,
) -> None:
    """Measure models on this machine: how good, how fast, how large.

    With --against every model is compared with its source token by token; without it, it is measured alone. With
    --activations alone it is compared with itself: --activations integer:group=0 tells what 8-bit activations cost.

    With --task the models answer labelled questions instead (arc, hellaswag, mmlu …, or your own rows), with the
    prompts of lm-evaluation-harness; answers are kept, so that a stopped run goes on. Models behind a server
    (http://host:11434/llama3.2:1b) can be asked tasks whose answers are written.

    With --weaknesses they are searched for what small models are known to be bad at: facts far back in a text or a
    conversation, noise, other domains, skills lost against the source, training text learnt by heart, endless loops.

    With --curves speed is measured with more and more in the context and with several answers at once, also of a
    model behind a server.
    """
    from smidgen.evaluate.measure import measure

    screen, texts = Screen(settings.json, settings.quiet), tuple(text or ())
    _require_room([*models, *([against] if against else [])], settings)
    if tasks.any:
        return _tasks.show(models, against, tasks, _known(engine), settings, screen)
    if weak.wanted:
        return _weaknesses.look(models, against, replace(weak, texts=texts, windows=windows), settings, screen)
    if curves.wanted:
        return _curves.show(models, curves, settings, screen)
    _require_possible(price)
    with screen.progress() as progress:
        measured = measure(
            *models,
            against=against,
            texts=texts,
            windows=windows,
            speed=speed,
            activations=activations,
            threads=settings.threads,
            offline=settings.offline,
            progress=progress,
        )
    costs = [None if price is None or each.speed is None else each.speed.cost(price) for each in measured]
    rows = [each.to_dict() | {"cost_per_million_tokens": cost} for each, cost in zip(measured, costs, strict=True)]
    screen.result({"against": against, "models": rows}, lambda: _show(screen, measured, costs))


def _require_room(models: Sequence[str], settings: Settings) -> None:
    """Refuse models that take more memory than a person allows; what is free is looked at where they are opened."""
    from smidgen.evaluate import room
    from smidgen.evaluate.measure import find_facts
    from smidgen.evaluate.respondents import READER
    from smidgen.inference.remote_address import is_address
    from smidgen.progress import silent

    for model in models if settings.max_memory is not None else ():
        if not is_address(model) and model != READER:
            facts = find_facts(model, "auto", settings.offline, silent)
            room.require(facts, context=512, limit=settings.max_memory)


def _known(engine: str) -> Engine:
    known: dict[str, Engine] = {"auto": "auto", "llama_cpp": "llama_cpp", "torch": "torch"}
    if engine not in known:
        raise ReferenceNotFound.among("engine that answers tasks", engine, list(known))
    return known[engine]


def _require_possible(price: float | None) -> None:
    if price is not None and not 0 < price < math.inf:
        raise InvalidInput(f"A price of {price:g} per hour is not possible.", remedy="Give a number above 0.")


def _show(screen: Screen, measured: Sequence[Measurement], costs: Sequence[float | None]) -> None:
    from smidgen.evaluate.quality import Quality

    pairs = [(each.name, quality) for each in measured for quality in each.quality]
    compared = [(name, quality.to_dict()) for name, quality in pairs if isinstance(quality, Quality)]
    alone = [(name, quality.to_dict()) for name, quality in pairs if not isinstance(quality, Quality)]
    if compared:
        screen.table(("model", "text", "KL", "same top", "perplexity", "bits per byte", "tokens"), _compared(compared))
    if alone:
        screen.table(("model", "text", "perplexity", "bits per byte", "tokens"), _alone(alone))
    columns = ("model", "size", "bits per weight", "memory", "writes", "reads", "first token", "load")
    screen.table(columns, [_machine_row(each) for each in measured])
    for each, cost in zip(measured, costs, strict=True):
        for line in _about_speed(each.speed, measured[0].name, cost) if each.speed else ():
            screen.text(f"{each.name}: {line}")
        for note in each.notes:
            screen.warn(f"{each.name}: {note}")


def _about_speed(speed: Speed, first: str, cost: float | None) -> list[str]:
    """Say what of a speed does not stand in the table: beside the first model, energy, cost."""
    said = []
    if speed.beside_first is not None and speed.first_again is not None:
        ratio, again = speed.beside_first, speed.first_again
        said.append(
            f"writes {ratio.median:.2f} times as fast as {first} ({ratio.low:.2f} to {ratio.high:.2f}, measured in "
            f"turns; {first} against itself {again.low:.2f} to {again.high:.2f})."
        )
    said.append(speed.energy.sentence)
    if cost is not None:
        said.append(f"writing a million tokens costs {cost:,.2f}, one answer after another.")
    return said


def _compared(pairs: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            each["text"],
            f"{each['kl_mean']:.4f} ± {each['kl_mean_se']:.4f}",
            f"{each['same_top']:.1%}",
            f"{each['ppl_result']:.2f} ({each['ppl_ratio']:.3f} of {each['ppl_source']:.2f})",
            f"{each['bits_per_byte']:.3f}",
            f"{each['tokens']:,}",
        )
        for name, each in pairs
    ]


def _alone(pairs: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            each["text"],
            f"{each['perplexity']:.2f} ± {each['perplexity_se']:.2f}",
            f"{each['bits_per_byte']:.3f}",
            f"{each['tokens']:,}",
        )
        for name, each in pairs
    ]


def _machine_row(each: Measurement) -> tuple[str, ...]:
    from smidgen.recipe.quantities import format_size

    size = (each.name, format_size(each.bytes), f"{each.bits_per_weight:.2f}", format_size(each.memory.peak_rss_bytes))
    speed = each.speed
    if speed is None:
        return (*size, *["not measured"] * 4)
    rates = [f"{rate.median:,.1f} tok/s" for rate in (speed.tg128, speed.pp512)]
    return (*size, *rates, f"{speed.ttft_ms.p50:,.0f} ms", f"{speed.load_s:.2f} s")
