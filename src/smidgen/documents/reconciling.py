"""Sums that must add up, as a witness: where the first choices contradict each other, others may not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.documents.assignment import ACCEPTED
from smidgen.documents.checks import build
from smidgen.documents.checks.sum import Sum
from smidgen.documents.ranking import Ranked

_RIVALS = 6
_WITHIN = 3.2
"""Log-odds that all choices together may lose for the sake of a sum that adds up."""


def reconcile(
    chosen: dict[str, tuple[Ranked, float]], ranked: Mapping[str, Sequence[Ranked]], checks: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[Ranked, float]]:
    """Exchange choices for less likely ones where only these add up.

    Args:
        chosen: What was chosen by path, with how likely it is right.
        ranked: All candidates by path.
        checks: The schema's checks; those that are sums of single values count.

    Returns:
        The choices; those exchanged keep the probability that their rivals leave them.
    """
    for entry in checks:
        check = build(entry)
        if not isinstance(check, Sum) or any(path not in chosen for path in check.paths):
            continue
        if check.fault({path: chosen[path][0].candidate.value for path in check.paths}) is None:
            continue
        better = _best(check, [_rivals(chosen[path][0], ranked.get(path, ())) for path in check.paths])
        if better is not None:
            for path, each in zip(check.paths, better, strict=True):
                chosen[path] = (each, max(0.5, chosen[path][1]) if each is not chosen[path][0] else chosen[path][1])
    return chosen


def _rivals(best: Ranked, ranked: Sequence[Ranked]) -> list[Ranked]:
    """Return the plausible candidates with different values, the chosen one first."""
    kept = {str(best.candidate.value): best}
    for each in ranked:
        if each.logit > ACCEPTED - 0.5 and len(kept) < _RIVALS:
            kept.setdefault(str(each.candidate.value), each)
    return list(kept.values())


def _best(check: Sum, pools: Sequence[Sequence[Ranked]]) -> tuple[Ranked, ...] | None:
    first = sum(pool[0].logit for pool in pools)
    fitting = [
        choice
        for choice in itertools.product(*pools)
        if check.fault({path: each.candidate.value for path, each in zip(check.paths, choice, strict=True)}) is None
        and first - sum(each.logit for each in choice) <= _WITHIN
    ]
    return max(fitting, key=lambda choice: sum(each.logit for each in choice), default=None)
