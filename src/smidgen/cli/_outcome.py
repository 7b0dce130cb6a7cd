"""Shows what `make` and `apply` ended in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from smidgen.cli.screen import Screen, print_json
from smidgen.errors import BudgetNotMet
from smidgen.recipe.quantities import format_duration, format_size

if TYPE_CHECKING:
    from smidgen.recipe.job import Outcome

REPORT, MODEL = "report.html", "model.gguf"
_WORDS = {True: "met", False: "missed", None: "not asked"}


def show(screen: Screen, outcome: Outcome) -> None:
    """Print the outcome, and end with the code of `BudgetNotMet` where a limit was missed.

    Raises:
        BudgetNotMet: It names the limits that were missed and the best that was found, which is kept.
    """
    error = None if outcome.met else _missed(outcome)
    if screen.json:
        facts = {"folder": str(outcome.folder), "met": outcome.met, "already_done": outcome.already_done}
        print_json({**facts, "missed": error.message if error else None, "receipt": outcome.receipt})
        if error is not None:
            raise typer.Exit(error.exit_code)
        return
    _show(screen, outcome)
    if error is not None:
        raise error


def _missed(outcome: Outcome) -> BudgetNotMet:
    from smidgen.recipe.receipt import missed

    return BudgetNotMet(
        f"The budget is not met: {'; '.join(missed(outcome.receipt))}.",
        remedy=f"The best that was found is kept in {outcome.folder / MODEL}.",
    )


def _show(screen: Screen, outcome: Outcome) -> None:
    receipt = outcome.receipt
    if outcome.already_done:
        screen.say(f"{outcome.folder} was finished before; --fresh makes it anew.")
    screen.table(("", "asked", "reached", ""), budget_rows(receipt))
    for quality in receipt["quality"]:
        screen.text(quality_line(quality))
    if receipt["samples"]:
        sample = receipt["samples"][0]
        screen.text(f"\n> {sample['prompt']}\nbefore: {sample['source']}\nnow: {sample['result']}\n")
    for warning in receipt["warnings"]:
        screen.warn(warning)
    screen.text(f"Report: {outcome.folder / REPORT}")
    screen.text(f"Chat with it: smidgen run {outcome.folder / MODEL}")


def budget_rows(receipt: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Lay out what was asked and what was reached, one limit per row."""
    budget, met, source, result = (receipt[name] for name in ("budget", "met", "source", "result"))
    speed, kept = receipt["speed"]["tg128"]["mean"], receipt["quality"][0]["same_top"]
    share = f"{result['bytes'] / source['bytes']:.0%} of {format_size(source['bytes'])}"
    seconds, within = receipt.get("seconds"), budget["within"]

    def asked(name: str, words: str) -> str:
        return "-" if budget[name] is None else words.format(budget[name])

    size = "-" if budget["fit"] is None else f"at most {format_size(budget['fit'])}"
    rows = [
        ("size", size, f"{format_size(result['bytes'])} ({share})", _WORDS[met["size"]]),
        ("speed", asked("speed", "at least {:g} tok/s"), f"{speed:,.1f} tok/s", _WORDS[met["speed"]]),
        ("kept", asked("keep", "at least {:.0%}"), f"{kept:.1%} of top choices", _WORDS[met["keep"]]),
    ]
    if seconds is not None:
        in_time = _WORDS[None if within is None else seconds <= within]
        allowed = "-" if within is None else f"within {format_duration(within)}"
        rows.append(("time", allowed, format_duration(seconds), in_time))
    return rows


def quality_line(quality: Mapping[str, Any]) -> str:
    """Say in one line what a text shows.

    Example:
        >>> quality_line({"text": "general", "kl_mean": 0.0712, "ppl_source": 20.0, "ppl_result": 21.5, "tokens": 2048})
        'On general (2,048 tokens): KL 0.0712 nats per token, perplexity 20.00 before and 21.50 now.'
    """
    if quality.get("dropped_mass"):
        # With fewer tokens the divergence tells half of the story: text is spelled in more pieces.
        return (
            f"On {quality['text']} ({quality['tokens']:,} tokens): KL {quality['kl_mean']:.4f} over the tokens kept, "
            f"{quality['bits_per_byte_source']:.3f} bits per byte before and {quality['bits_per_byte']:.3f} now."
        )
    return (
        f"On {quality['text']} ({quality['tokens']:,} tokens): KL {quality['kl_mean']:.4f} nats per token, "
        f"perplexity {quality['ppl_source']:.2f} before and {quality['ppl_result']:.2f} now."
    )
