"""What the removed parts did: the skills that lost most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.findings import Finding, Point, share_interval
from smidgen.evaluate.paired import Difference, difference
from smidgen.evaluate.weaknesses._weakness import Weakness, percent

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects

_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Capacity(Weakness["dict[str, list[int]]"]):
    """Small questions of eight skills, asked of the model and of its source: what was lost, and most of all where.

    With a source the figure is the change in percentage points over all skills, tested in pairs by McNemar's exact
    test; a skill counts as lost where its own test falls below 5% divided by the count of skills (Bonferroni). Without
    a source it is the share of right answers. The questions are `smidgen.evaluate.skills`, too easy for large models.
    """

    unit: ClassVar[str] = "points"

    def observe(self, model: Examined, subjects: Subjects) -> dict[str, list[int]]:
        """Ask all questions; 1 for each that was answered rightly."""
        from smidgen.evaluate.skills import questions

        asked = questions()
        right = model.right(asked, "asking for skills")
        found: dict[str, list[int]] = {}
        for question, score in zip(asked, right, strict=True):
            found.setdefault(question.skill, []).append(score)
        return found

    def judge(self, seen: dict[str, list[int]], source: dict[str, list[int]] | None) -> Finding:
        """Say which skills were lost, or which are weak."""
        if source is None:
            return _alone(seen)
        changes = {skill: difference(source[skill], scores) for skill, scores in seen.items()}
        every = [score for skill in seen for score in seen[skill]]
        overall = difference([score for skill in seen for score in source[skill]], every)
        lost = [
            skill for skill, each in changes.items() if each.value < 0 and each.p_value < _SIGNIFICANT / len(changes)
        ]
        worst = sorted(changes, key=lambda skill: changes[skill].value)
        return Finding(
            "capacity",
            100 * overall.value,
            self.unit,
            _sentence(overall, changes, worst, lost),
            low=100 * overall.low,
            high=100 * overall.high,
            items=overall.items,
            weak=bool(lost) or (overall.value < 0 and overall.p_value < _SIGNIFICANT),
            axis="skill",
            points=tuple(
                Point(skill, 100 * each.value, 100 * each.low, 100 * each.high, each.items)
                for skill, each in ((skill, changes[skill]) for skill in worst)
            ),
        )


def _sentence(overall: Difference, changes: dict[str, Difference], worst: list[str], lost: list[str]) -> str:
    change = f"{abs(100 * overall.value):.0f} points {'fewer' if overall.value < 0 else 'more'}"
    said = f"Over {len(changes)} skills it answers {change} of the questions rightly than its source."
    if math.isclose(overall.value, 0.0):
        said = f"Over {len(changes)} skills it answers as many questions rightly as its source."
    if lost:
        listed = ", ".join(f"{skill} ({100 * changes[skill].value:+.0f})" for skill in worst if skill in lost)
        return f"{said} Clearly lost: {listed}."
    if changes[worst[0]].value < 0:
        return f"{said} No single skill is clearly lost; the largest change is {worst[0]}'s."
    return f"{said} No skill lost anything."


def _alone(seen: dict[str, list[int]]) -> Finding:
    shares = {skill: sum(scores) / len(scores) for skill, scores in seen.items()}
    right, items = sum(map(sum, seen.values())), sum(map(len, seen.values()))
    low, high = share_interval(right, items)
    worst = sorted(shares, key=lambda skill: shares[skill])
    listed = ", ".join(f"{skill} ({percent(shares[skill])})" for skill in worst[:2])
    return Finding(
        "capacity",
        right / items,
        "share",
        f"It answers {percent(right / items)} of small questions of {len(seen)} skills rightly; weakest are {listed}.",
        low=low,
        high=high,
        items=items,
        axis="skill",
        points=tuple(
            Point(skill, shares[skill], *share_interval(sum(seen[skill]), len(seen[skill])), len(seen[skill]))
            for skill in worst
        ),
    )
