"""``smidgen make``: a budget becomes a proven small model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli import _step
from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from smidgen.recipe.job import Forecast


def command(
    settings: Settings,
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="smollm2:135m, hf:org/name, a folder, a .gguf file.")
    ] = None,
    fit: Annotated[str | None, typer.Option("--fit", metavar="SIZE", help="Largest size of the file (80MB).")] = None,
    speed: Annotated[
        str | None, typer.Option("--speed", metavar="N", help="Least speed of writing on this machine (20tok/s).")
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="P", help="Least share of tokens whose top choice stays (95%).")
    ] = None,
    data: _step.For = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="FOLDER", help="Store what reads images in 8 bits, going by these images."),
    ] = None,
    within: Annotated[str | None, typer.Option("--within", metavar="TIME", help="Time allowed (4m, 1h30m).")] = None,
    draft_for: Annotated[
        str | None,
        typer.Option("--draft-for", metavar="MODEL", help="Make a small model that guesses ahead for this one."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="Folder to write.", show_default="SOURCE-SIZE")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan with its time, memory and disk.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run in the folder.")] = False,
) -> None:
    """Make a small model that keeps within a budget, and prove what was kept.

    The same command goes on where it was stopped. Ends with code 3 where a limit was missed; the best is kept.
    For example: smidgen make smollm2:135m --fit 80MB --within 4m

    With --draft-for instead of SOURCE the result has few layers and the whole vocabulary of a larger model, is kept
    with that model in the store, and makes it faster by guessing ahead, where that is measured to help.
    """
    from smidgen.recipe.budget import Budget

    screen = Screen(settings.json, settings.quiet)
    if draft_for is not None:
        if dry_run or any(value is not None for value in (source, fit, speed, keep, images)):
            raise InvalidInput("--draft-for goes with --for, --within, --out and --fresh only.")
        return _draft(screen, settings, draft_for, data=data, within=within, out=out, fresh=fresh)
    if source is None:
        raise InvalidInput("There is no model to make a smaller one of.", remedy="Name it: smidgen make smollm2:135m")
    Budget.parse(fit, speed, keep, within)
    _step.require_cpu(settings)
    order: dict[str, Any] = {"fit": fit, "speed": speed, "keep": keep, "data": data, "within": within}
    order |= {"images": images}
    order |= {"out": out or default_folder(source, fit or speed or ""), "seed": settings.seed}
    order |= {"threads": settings.threads, "offline": settings.offline, "max_memory": settings.max_memory}
    if dry_run:
        _forecast(screen, source, order)
        return
    from smidgen.cli import _outcome
    from smidgen.recipe.make import make

    with screen.progress() as progress:
        outcome = make(source, **order, fresh=fresh, progress=progress)
    _outcome.show(screen, outcome)


def _draft(screen: Screen, settings: Settings, target: str, *, out: str | None, **order: Any) -> None:
    """Make a draft for a model."""
    from smidgen.cli import _outcome
    from smidgen.recipe.drafting import make_draft

    _step.require_cpu(settings)
    order |= {"out": out or default_folder(target, "draft"), "seed": settings.seed, "threads": settings.threads}
    order |= {"offline": settings.offline, "max_memory": settings.max_memory}
    with screen.progress() as progress:
        outcome = make_draft(target, **order, progress=progress)
    _outcome.show(screen, outcome)
    guesses = outcome.receipt["draft"]
    share = "none" if guesses["acceptance"] is None else f"{guesses['acceptance']:.0%}"
    screen.say(f"Right guesses: {share}; writing is {guesses['times_as_fast']:.2f} times as fast with it.")


def default_folder(source: str, limit: str) -> str:
    """Name the folder after the source's last part and its limit.

    Example:
        >>> default_folder("smollm2:135m", "80MB"), default_folder("hf:Org/Name@v1", "20tok/s")
        ('smollm2-135m-80MB', 'Name-20tok-s')
        >>> default_folder("./models/big.gguf", "1.5 GB")
        'big-1.5GB'
    """
    path = source.removeprefix("hf:").partition("@")[0].rstrip("/\\")
    last = re.split(r"[/\\]", path)[-1].removesuffix(".gguf")
    name = f"{last}-{''.join(limit.split())}"
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "made"


def _forecast(screen: Screen, source: str, order: dict[str, Any]) -> None:
    from smidgen.recipe.make import forecast

    with screen.progress() as progress:
        expected = forecast(source, **order, progress=progress)
    data = {"out": order["out"], **expected.to_dict()}
    screen.result(data, lambda: _show_forecast(screen, expected, order["out"]))


def _show_forecast(screen: Screen, expected: Forecast, out: str) -> None:
    from smidgen.recipe.quantities import format_duration, format_size

    for number, step in enumerate(expected.steps, 1):
        screen.text(f"{number}. {step}")
    predicted = expected.predicted
    rows = [
        ("size", format_size(predicted["bytes"])),
        ("KL before healing", f"{predicted['kl_mean']:.4f} nats per token"),
        ("time", format_duration(expected.seconds)),
        ("memory", format_size(expected.memory_bytes)),
        ("disk", format_size(expected.disk_bytes)),
        ("folder", out),
    ]
    screen.table(("expected", ""), rows)
