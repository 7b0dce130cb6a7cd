"""A judge model compares answers in pairs, each pair in both orders, so that the place of an answer decides nothing.

A model that answers "A" whatever stands there would make the first answer win: a verdict counts only where both orders
name the same answer, everything else is a tie, and the share of pairs where the orders agreed is reported. What comes
out is the judge's opinion, no measurement. Source of the bias and the remedy: Zheng et al. 2023, arXiv:2306.05685.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from smidgen.data.remembering import Notebook
from smidgen.evaluate.paired import bootstrap
from smidgen.inference.engine import Engine, Message
from smidgen.inference.options import GenerationOptions
from smidgen.progress import Event, Progress

if TYPE_CHECKING:
    from smidgen.evaluate.comparing.contestants import Contestant

SCHEMA: Mapping[str, Any] = {"enum": ["A", "B", "tie"]}
"""What an engine that can be held to a schema may answer."""

_LAYOUT = """Compare two answers to the same question.

Question: {question}

Answer A:
{first}

Answer B:
{second}

Which answer is better: right, complete and clear? Say only A, B or tie."""
_LONGEST = 1200  # characters of an answer that the judge is shown
_TOKENS = 12
_VERDICT = re.compile(r"\b(?:A|B|[Tt]ie)\b")


@dataclass(frozen=True)
class Duel:
    """What a judge said about two models' answers to one prompt.

    Attributes:
        prompt: Number of the prompt.
        first: Number of one model.
        second: Number of the other.
        points: What the first gets: 1 where both orders prefer it, 0 where both prefer the other, else ½.
        agreed: Whether both orders said the same.
    """

    prompt: int
    first: int
    second: int
    points: float
    agreed: bool


@dataclass(frozen=True)
class Opinion:
    """What a judge thinks of the models.

    Attributes:
        judge: Its name.
        duels: Every pair that was judged.
        shares: For each model the share of its pairs that it won, ties as one half; None where it was not judged.
        intervals: Their intervals of 95%, by resampling the pairs.
        agreed: Share of the pairs where both orders said the same.
        takes_part: Whether the judge is one of the models.
    """

    judge: str
    duels: tuple[Duel, ...]
    shares: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    agreed: float
    takes_part: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def read_verdict(said: str) -> str:
    """Return "A", "B" or "tie" from what a judge said; a tie where it named neither or both.

    Example:
        >>> read_verdict('"A"'), read_verdict("Answer B is better."), read_verdict("A or B"), read_verdict("Well.")
        ('A', 'B', 'tie', 'tie')
    """
    named = set(_VERDICT.findall(said))
    return named.pop() if named in ({"A"}, {"B"}) else "tie"


def judge(
    referee: Contestant,
    prompts: Sequence[str],
    answers: Sequence[Sequence[str | None]],
    notebook: Notebook,
    *,
    open_judge: Callable[[], Engine],
    taking_part: bool,
    progress: Progress,
) -> Opinion:
    """Let a model compare all models' answers, pair by pair.

    Args:
        referee: The judge.
        prompts: The questions.
        answers: For each model its answers by prompt, None where there is none.
        notebook: Keeps what the judge said.
        open_judge: Loads the judge, once and only where something is asked that is not kept.
        taking_part: Whether the judge is one of the models.
        progress: Told after each pair.
    """
    pairs = [
        (prompt, first, second)
        for prompt in range(len(prompts))
        for first, second in combinations(range(len(answers)), 2)
        if answers[first][prompt] is not None and answers[second][prompt] is not None
    ]
    duels: list[Duel] = []
    progress(Event(f"judging with {referee.name}", 0, len(pairs), "pairs"))
    for number, (prompt, first, second) in enumerate(pairs, 1):
        one, two = str(answers[first][prompt]), str(answers[second][prompt])

        def say(before: str, after: str, question: str = prompts[prompt]) -> str:
            return _once(notebook, open_judge, [referee.identity, question, before, after])

        verdicts = ("tie", "tie") if one == two else (say(one, two), _turned(say(two, one)))
        agreed = verdicts[0] == verdicts[1]
        points = {"A": 1.0, "B": 0.0}.get(verdicts[0], 0.5) if agreed else 0.5
        duels.append(Duel(prompt, first, second, points, agreed))
        progress(Event(f"judging with {referee.name}", number, len(pairs), "pairs"))
    return summarise(referee.name, duels, len(answers), taking_part)


def summarise(name: str, duels: Sequence[Duel], models: int, taking_part: bool) -> Opinion:
    """Count what a judge said.

    Example:
        >>> found = summarise("judge", [Duel(0, 0, 1, 1.0, True), Duel(1, 0, 1, 0.5, False)], 2, False)
        >>> found.shares, found.agreed
        ((0.75, 0.25), 0.5)
    """
    points: list[list[float]] = [[] for _ in range(models)]
    for duel in duels:
        points[duel.first].append(duel.points)
        points[duel.second].append(1 - duel.points)
    shares = tuple(sum(own) / len(own) if own else None for own in points)
    intervals = tuple(bootstrap([0.0] * len(own), own, rounds=2000)[:2] if own else None for own in points)
    agreed = sum(duel.agreed for duel in duels) / len(duels) if duels else 0.0
    return Opinion(name, tuple(duels), shares, intervals, agreed, taking_part)


def _turned(verdict: str) -> str:
    return {"A": "B", "B": "A"}.get(verdict, "tie")


def _once(notebook: Notebook, open_judge: Callable[[], Engine], question: list[str]) -> str:
    key = json.dumps(["verdict", *question])
    if key not in notebook.known:
        engine = open_judge()
        hold = getattr(engine, "hold_to", None)
        if hold is not None:
            hold(SCHEMA)
        _, asked, first, second = question
        told = _LAYOUT.format(question=asked, first=first[:_LONGEST], second=second[:_LONGEST])
        options = GenerationOptions(temperature=0, seed=0, num_predict=_TOKENS)
        said = "".join(chunk.text for chunk in engine.chat([Message("user", told)], options))
        notebook.keep(key, read_verdict(said))
    verdict: str = notebook.known[key]
    return verdict
