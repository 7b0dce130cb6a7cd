"""``smidgen verify``: measure a receipt again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen, print_json
from smidgen.errors import QualityDrifted

if TYPE_CHECKING:
    from smidgen.recipe.verify import Verification


def command(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A folder that make or apply wrote.")],
    settings: Settings,
    speed: Annotated[
        bool, typer.Option("--speed", help="Speed and memory too, on the machine that the receipt was written on.")
    ] = False,
) -> None:
    """Measure again what a receipt says; ends with code 3 where a figure moved beyond its interval.

    The digest of the file, its quality on the texts kept beside it, and the weaknesses that measure --keep wrote down.
    """
    from smidgen.recipe.verify import verify

    screen = Screen(settings.json, settings.quiet)
    with screen.progress() as progress:
        found = verify(folder, speed=speed, offline=settings.offline, progress=progress)
    if screen.json:
        print_json({"folder": str(found.folder), "ok": found.ok, "checks": found.checks, "notes": found.notes})
    else:
        _show(screen, found)
    if found.ok:
        return
    if screen.json:
        raise typer.Exit(QualityDrifted.exit_code)
    drifted = ", ".join(str(check["name"]) for check in found.checks if not check["ok"])
    raise QualityDrifted(f"{found.folder} is not what its receipt says: {drifted}.")


def _show(screen: Screen, found: Verification) -> None:
    rows = [
        (
            check["name"],
            _figure(check["receipt"]),
            _figure(check["measured"]),
            _figure(check["tolerance"]),
            _state(check),
        )
        for check in found.checks
    ]
    screen.table(("figure", "receipt", "now", "may move by", ""), rows)
    for note in found.notes:
        screen.warn(note)


def _state(check: dict[str, Any]) -> str:
    """Say what became of a figure.

    Example:
        >>> _state({"ok": True, "receipt": 0.5, "measured": 0.5000001}), _state({"ok": False})
        ('as stated', 'drifted')
        >>> _state({"ok": True, "receipt": 0.5, "measured": 0.52})
        'moved, within its interval'
    """
    if not check["ok"]:
        return "drifted"
    before, now = check["receipt"], check["measured"]
    if isinstance(before, str) or abs(now - before) <= 1e-4 * abs(before):
        return "as stated"
    return "moved, within its interval"


def _figure(value: Any) -> str:
    """Write a figure short: six significant digits, digests by their beginning.

    Example:
        >>> _figure(0.123456789), _figure(80000000), _figure(None), _figure("ab" * 32)
        ('0.123457', '80,000,000', '-', 'abababababab…')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
