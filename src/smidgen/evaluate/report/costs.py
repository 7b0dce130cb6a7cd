"""What was lost, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.evaluate.report import words

_UNEVEN = 1.25  # how many times as much one text must lose as another to be worth saying


def losses(receipt: Mapping[str, Any], quality: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in plain words what was lost, and what nobody looked at."""
    found = [_on_text(entry) for entry in quality]
    if quality:
        found += _between(quality)
    found += _of_parts(receipt)
    found.append("Not measured here: tasks with right answers, long texts, and conversations of several turns.")
    return found


def curves_of(receipt: Mapping[str, Any]) -> dict[str, Mapping[str, Sequence[tuple[int, float]]]]:
    """Return what the steps that trained recorded, ``training`` and ``held_out`` as (step, loss), by the step's name.

    Example:
        >>> curves_of({"steps": [{"operation": "prune"}, {"operation": "distill", "curves": {"training": [[1, 0.5]]}}]})
        {'step 2, distill': {'training': [[1, 0.5]]}}
    """
    steps = enumerate(receipt.get("steps") or [], start=1)
    return {f"step {number}, {step['operation']}": step["curves"] for number, step in steps if step.get("curves")}


def _on_text(entry: Mapping[str, Any]) -> str:
    other, rise = 1 - entry["same_top"], 100 * (entry["ppl_ratio"] - 1)
    choice = "every token would be chosen the same"
    if other:
        choice = f"{words.one_in(other)} tokens would be chosen differently"
    return f"On {entry['text']}, {choice}, and perplexity {'rises' if rise >= 0 else 'falls'} by {abs(rise):.1f}%."


def _between(quality: Sequence[Mapping[str, Any]]) -> list[str]:
    worst, least = (pick(quality, key=lambda entry: entry["kl_mean"]) for pick in (max, min))
    found = [
        f"The loss is uneven: half of the tokens move by less than {words.number(worst['kl_median'])} nats, "
        f"1 in 100 by more than {words.number(worst['kl_p99'])} (on {worst['text']})."
    ]
    if least["kl_mean"] and worst["kl_mean"] > _UNEVEN * least["kl_mean"]:
        times = worst["kl_mean"] / least["kl_mean"]
        found.append(f"The divergence on {worst['text']} is {times:.1f} times that on {least['text']}.")
    dropped = max(entry.get("dropped_mass") or 0.0 for entry in quality)
    if dropped:
        found.append(
            f"Tokens were removed that carried {words.share(dropped)} of the source’s probability; "
            "such text is still written, in more and smaller tokens."
        )
    return found


def _of_parts(receipt: Mapping[str, Any]) -> list[str]:
    found, source = [], receipt["source"]
    before, after = source.get("parameters"), receipt["result"].get("parameters")
    if before and after and after < before:
        found.append(f"{words.share(1 - after / before)} of the parameters were removed, with what they knew.")
    if source.get("dequantised_from"):
        found.append(
            f"The source was dequantised from {source['dequantised_from']}; "
            "what that format had already lost does not come back."
        )
    for name, curve in curves_of(receipt).items():
        held_out = curve.get("held_out") or []
        if len(held_out) > 1:
            before, after = held_out[0][1], min(loss for _, loss in held_out)
            turn = f"fell from {words.number(before)} to {words.number(after)}" if after < before else "did not fall"
            found.append(f"In {name}, the loss on held-out text {turn}{_gap(curve)}.")
    return found


def _gap(curve: Mapping[str, Any]) -> str:
    """Say how far held-out loss ended above the loss of what was trained on: what was learned by heart."""
    gap = curve.get("gap")
    return f", and ended {words.number(gap)} above that of training" if gap is not None and gap > 0 else ""
