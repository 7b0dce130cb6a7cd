"""Which candidate each field gets: the likeliest, but no value twice for different fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from smidgen.documents.claims import overlap
from smidgen.documents.ranking import Ranked

if TYPE_CHECKING:
    from smidgen.documents.choosing import Chooser
    from smidgen.documents.schema import Field

ACCEPTED = 0.0
"""Log-odds from which on a candidate is taken."""
_AGAIN = 0.25
_MOST_AGAIN = 3


def assign(
    fields: Sequence[Field], ranked: Mapping[str, Sequence[Ranked]], chooser: Chooser | None
) -> dict[str, tuple[Ranked, float]]:
    """Choose a candidate for each field that has a plausible one.

    The surest fields choose first; what they took is no longer there for fields that mean something else.

    Args:
        fields: The fields.
        ranked: The candidates of each.
        chooser: The model that is asked where the layout leaves a doubt.

    Returns:
        For each field's path the candidate and how likely it is right; fields without one are missing.
    """
    pools = {field.path: _supported(ranked.get(field.path, ())) for field in fields}
    if chooser is not None:
        pools = chooser.reconsider(fields, pools)
    by_path = {field.path: field for field in fields}
    chosen: dict[str, tuple[Ranked, float]] = {}
    waiting = {path for path, pool in pools.items() if pool}
    while waiting:
        path = max(waiting, key=lambda each: (pools[each][0].logit, each))
        waiting.discard(path)
        best = pools[path][0]
        if best.logit <= ACCEPTED:
            continue
        chosen[path] = (best, _probability(pools[path]))
        for other in list(waiting):
            if _exclude_each_other(by_path[path], by_path[other]):
                pools[other] = [each for each in pools[other] if not _taken(each, best)]
                if not pools[other]:
                    waiting.discard(other)
    return chosen


def _supported(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Give a value that stands at several places some weight for each of them."""
    times: dict[str, int] = {}
    for each in ranked:
        if each.logit > ACCEPTED:
            key = str(each.candidate.value)
            times[key] = times.get(key, 0) + 1
    lifted = [
        replace(each, logit=each.logit + _AGAIN * min(_MOST_AGAIN, times.get(str(each.candidate.value), 1) - 1))
        if each.logit > ACCEPTED
        else each
        for each in ranked
    ]
    return sorted(lifted, key=lambda each: -each.logit)


def _exclude_each_other(one: Field, other: Field) -> bool:
    """Say whether a value cannot be that of both fields; a sum holds its currency, and two names may mean the same."""
    same = one.concept is not None and one.concept is other.concept and one.kind == other.kind
    return not same and "currency" not in (one.kind, other.kind)


def _taken(ranked: Ranked, best: Ranked) -> bool:
    """Say whether a candidate's place is taken by another field that has the better claim to it."""
    return overlap(ranked.candidate, best.candidate) and ranked.labelled < 0.85 * max(best.labelled, 0.5)


def _probability(pool: Sequence[Ranked]) -> float:
    """Return how likely the first candidate is right: its own odds, and its share among those with other values."""
    best = pool[0]
    own = 1 / (1 + math.exp(-best.logit))
    rivals = sum(
        math.exp(each.logit - best.logit) for each in pool[1:] if str(each.candidate.value) != str(best.candidate.value)
    )
    return own / (1 + 0.5 * rivals)
