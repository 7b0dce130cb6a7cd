"""``smidgen compare``: several models side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli import _tasks
from smidgen.cli.options import Group, Settings
from smidgen.cli.screen import Screen, print_json
from smidgen.errors import ItemsFailed

if TYPE_CHECKING:
    from smidgen.evaluate.comparing.results import Comparison

_LONGEST = 400  # characters of an answer that the terminal shows


_Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Names, folders, .gguf files or http://host:11434/model."),
]
_Prompts = Annotated[
    str | None,
    typer.Option("--prompts", metavar="FILE", help="Prompts (.jsonl, .csv, .txt).", show_default="built-in"),
]
_Judge = Annotated[
    str | None, typer.Option("--judge", metavar="MODEL", help="Let a model compare the answers, in both orders.")
]
_Output = Annotated[
    list[str] | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write a report: .html, .md, .csv, .json; may be repeated."),
]


def asked(
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="FILE", help="Text to foretell; may be repeated.", show_default="built-in"),
    ] = None,
    windows: Annotated[
        int, typer.Option("--windows", metavar="N", help="Windows of 512 tokens of each text; 0 reads none.")
    ] = 8,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="How often every prompt is asked.")] = 2,
    tokens: Annotated[int, typer.Option("--tokens", metavar="N", help="Most tokens of an answer.")] = 128,
    weaknesses: Annotated[
        bool, typer.Option("--weaknesses", help="Look for the known weaknesses as well; takes long.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure anew, and say how the figures moved since last time.")
    ] = False,
) -> Any:
    """Gather how models are compared."""
    from smidgen.evaluate.compare import CompareSetting

    return CompareSetting(tuple(text or ()), windows, rounds, tokens, weaknesses=weaknesses, fresh=fresh)


def command(
    models: _Models,
    settings: Settings,
    *,
    prompts: _Prompts = None,
    judge: _Judge = None,
    setting: Annotated[Any, Group(asked)],
    output: _Output = None,
    tasks: _tasks.Options,
) -> None:
    """Compare models: answers side by side, speed, quality, size, and which one to take.

    The first model is the one that the others are set against. Everything is kept as it comes: the same command goes
    on where it was stopped, and shows a finished comparison again at once.

    For example: smidgen compare smollm2:135m gemma3:270m --output report.html
    """
    from smidgen.evaluate.compare import compare
    from smidgen.evaluate.comparing.writing import check_output, write

    screen, files = Screen(settings.json, settings.quiet), [Path(name).expanduser() for name in output or ()]
    for path in files:
        check_output(path)
    with screen.progress() as progress:
        found = compare(
            *models,
            prompts=prompts,
            tasks=_tasks.read_exams(tasks),
            judge=judge,
            setting=replace(setting, seed=settings.seed, max_memory=settings.max_memory),
            threads=settings.threads,
            offline=settings.offline,
            progress=progress,
        )
    for path in files:
        write(found, path)
    _end(screen, found, files)


def _end(screen: Screen, found: Comparison, files: list[Path]) -> None:
    """Show what was found, and end with the code of `ItemsFailed` where a model's part is not whole."""
    plain = found.to_dict()
    error = None
    if found.failed:
        error = ItemsFailed(
            f"Not whole: {', '.join(found.failed)}. What was reached is kept and shown.",
            remedy="The same command goes on with what is missing.",
        )
    if screen.json:
        print_json(plain | {"files": [str(path) for path in files], "missing": error.message if error else None})
        if error is not None:
            raise typer.Exit(error.exit_code)
        return
    _show(screen, plain)
    for path in files:
        screen.text(f"Written: {path}")
    if not files:
        screen.say("For the whole report, say --output report.html as well; nothing is measured twice.")
    if error is not None:
        raise error


def _show(screen: Screen, plain: dict[str, Any]) -> None:
    from smidgen.evaluate.comparing.verdicts import letter

    for number, prompt in enumerate(plain["prompts"]):
        screen.text(f"\n> {prompt['text']}")
        for place, model in enumerate(plain["models"]):
            answer = model["answers"][number]
            if answer is None:
                screen.text(f"\n{letter(place)}  (no answer)")
                continue
            rates = [rate for rate in answer["rates"] if rate]
            speed = f"{sum(rates) / len(rates):.1f} tok/s, " if rates else ""
            mark = {True: ", right", False: ", wrong", None: ""}[answer["right"]]
            screen.text(f"\n{letter(place)}  {speed}{answer['tokens']} tokens{mark}\n{_short(answer['text'])}")
    screen.text("")
    _table(screen, plain)
    for number, sentence in enumerate(plain["verdicts"]):
        screen.text(f"{letter(number)}: {sentence}")
    screen.text(f"\n{plain['headline']}")
    if plain["repeated"]:
        screen.text(plain["repeated"])
    for caveat in plain["caveats"]:
        screen.warn(caveat)


def _table(screen: Screen, plain: dict[str, Any]) -> None:
    from smidgen.evaluate.comparing.verdicts import letter, show
    from smidgen.recipe.quantities import format_size

    yardstick = plain["yardstick"]
    columns = ["", "model", "size", "writes", "first token", "memory", *([yardstick["name"]] if yardstick else [])]
    rows = []
    for number, model in enumerate(plain["models"]):
        size, memory = model["about"]["bytes"], model["memory"]
        row = [letter(number), model["about"]["name"], format_size(size) if size else "not told"]
        row.append(f"{model['writes']['median']:,.1f} tok/s" if model["writes"] else "not measured")
        row.append(f"{model['first_ms']['median']:,.0f} ms" if model["first_ms"] else "not measured")
        row.append(format_size(memory) if memory else "not known")
        if yardstick:
            value = yardstick["values"][number]
            half = (value["high"] - value["low"]) / 2 if value else 0.0
            unit = yardstick["unit"]
            row.append(f"{show(value['value'], unit, bare=True)} ± {show(half, unit, bare=True)}" if value else "—")
        rows.append(row)
    screen.table(columns, rows)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
