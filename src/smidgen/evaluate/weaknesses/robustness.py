"""What typing errors, reading errors and capitals cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.findings import Finding, Point
from smidgen.evaluate.paired import difference
from smidgen.evaluate.weaknesses._weakness import Weakness, percent

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.noises._noise import Noise
    from smidgen.evaluate.skills import SkillQuestion

ASKED = ("facts", "opposites", "kinds", "comparing")
"""Skills whose questions keep their answers when a letter is wrong."""

CLEAN = "clean"
CHANCE = 0.27
"""What guessing reaches on these questions, most of which have four endings and some three."""

_SAID = {"typos": "typing errors", "ocr": "errors of scanning", "capitals": "everything in capitals"}
_MUCH = 5.0  # points
_KNOWN = 0.15  # above chance, from which on a drop can be seen


@dataclass(frozen=True)
class Robustness(Weakness["dict[str, list[int]]"]):
    """The same questions clean and with noise in them: the points that each kind of noise costs.

    The answers to choose from stay clean, but for capitals, which they get too. The figure is the drop under the worst
    noise, in percentage points, paired question by question, with the interval of the paired bootstrap. The kinds of
    noise are `smidgen.evaluate.noises`.
    """

    unit: ClassVar[str] = "points"

    def observe(self, model: Examined, subjects: Subjects) -> dict[str, list[int]]:
        """Ask clean and noisy questions; 1 for each that was answered rightly."""
        from smidgen.evaluate import noises
        from smidgen.evaluate.skills import questions

        asked = questions(ASKED)
        found = {CLEAN: model.right(asked, "asking clean questions")}
        for name in noises.names():
            noise = noises.find(name)
            noisy = [_noisy(each, noise, subjects.seed) for each in asked]
            found[name] = model.right(noisy, f"asking with {_SAID.get(name, name)}")
        return found

    def judge(self, seen: dict[str, list[int]], source: dict[str, list[int]] | None) -> Finding:
        """Say what the worst noise costs, and what it costs the source."""
        clean = sum(seen[CLEAN]) / len(seen[CLEAN])
        drops = {name: difference(scores, seen[CLEAN]) for name, scores in seen.items() if name != CLEAN}
        worst = max(drops, key=lambda name: drops[name].value)
        drop, said = drops[worst], _SAID.get(worst, worst)
        able = clean > CHANCE + _KNOWN
        sentence = (
            f"With {said} in the questions it answers {percent(clean - drop.value)} of them rightly instead of "
            f"{percent(clean)}."
        )
        if not able:
            sentence = f"It answers only {percent(clean)} of clean questions rightly, so noise can hardly cost it more."
        elif source is not None:
            before = difference(source[worst], source[CLEAN])
            sentence += f" The same errors cost its source {100 * before.value:.0f} points."
        return Finding(
            "robustness",
            100 * drop.value,
            self.unit,
            sentence,
            low=100 * drop.low,
            high=100 * drop.high,
            items=drop.items,
            weak=(drop.low > 0 and 100 * drop.value >= _MUCH) if able else None,
            axis="noise",
            points=tuple(
                Point(name, 100 * each.value, 100 * each.low, 100 * each.high, each.items)
                for name, each in drops.items()
            ),
            setting={"skills": list(ASKED), "clean": clean},
        )


def _noisy(question: SkillQuestion, noise: Noise, seed: int) -> SkillQuestion:
    endings = tuple(noise.put_on(ending, seed) for ending in question.endings) if noise.on_answers else question.endings
    return replace(question, prompt=noise.put_on(question.prompt, seed), endings=endings)
