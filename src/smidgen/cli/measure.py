"""``smidgen measure``: quality, speed, memory and size of finished models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli import _tasks
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen

if TYPE_CHECKING:
    from smidgen.evaluate.measure import Measurement


def command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names, made folders or .gguf files.")],
    settings: Settings,
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODEL", help="The model they were made from.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="FILE", help="Text to measure on; may be repeated.", show_default="built-in"),
    ] = None,
    windows: Annotated[int, typer.Option("--windows", metavar="N", help="Windows of 512 tokens of each text.")] = 8,
    speed: Annotated[bool, typer.Option("--speed/--no-speed", help="Measure speed as well.")] = True,
    activations: Annotated[
        str | None,
        typer.Option("--activations", metavar="NAME", help="Format to round what every layer reads to, in torch."),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="Score a task instead; may be repeated.")
    ] = None,
    task_file: Annotated[
        list[str] | None,
        typer.Option("--task-file", metavar="FILE", help="Its labelled rows, JSONL or CSV; one for each --task."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", help="The first N rows of each task.")] = None,
    few_shot: Annotated[
        int | None,
        typer.Option(
            "--few-shot", metavar="K", help="Worked examples before each question.", show_default="the task's"
        ),
    ] = None,
    few_shot_file: Annotated[
        list[str] | None,
        typer.Option("--few-shot-file", metavar="FILE", help="Rows of worked examples; one for each --task."),
    ] = None,
    allow_code_execution: Annotated[
        bool,
        typer.Option("--allow-code-execution", help="Run what a model programs also where nothing keeps it from harm."),
    ] = False,
) -> None:
    """Measure models on this machine: how good, how fast, how large.

    With --against every model is compared with its source token by token; without it, it is measured alone. With
    --activations alone it is compared with itself: --activations integer:group=0 tells what 8-bit activations cost.

    With --task the models answer labelled questions instead (arc, hellaswag, mmlu …, or your own rows), with the
    prompts of lm-evaluation-harness; answers are kept, so that a stopped run goes on.
    """
    from smidgen.evaluate.measure import measure

    screen = Screen(settings.json, settings.quiet)
    if task or task_file:
        files, shown = tuple(task_file or ()), tuple(few_shot_file or ())
        asked = _tasks.Asked(tuple(task or ()), files, shown, limit, few_shot, allow_code_execution)
        return _tasks.show(models, against, asked, settings, screen)
    with screen.progress() as progress:
        measured = measure(
            *models,
            against=against,
            texts=text or (),
            windows=windows,
            speed=speed,
            activations=activations,
            threads=settings.threads,
            offline=settings.offline,
            progress=progress,
        )
    data = {"against": against, "models": [each.to_dict() for each in measured]}
    screen.result(data, lambda: _show(screen, measured))


def _show(screen: Screen, measured: Sequence[Measurement]) -> None:
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
    for each in measured:
        for note in each.notes:
            screen.warn(f"{each.name}: {note}")


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
