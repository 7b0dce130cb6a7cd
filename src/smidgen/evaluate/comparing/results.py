"""What a comparison found, in a form that programs and reports read alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from smidgen.evaluate.findings import Finding
from smidgen.evaluate.paired import bootstrap

NOISY = 0.1
"""Share by which medians of two rounds may differ before the machine is called noisy."""


@dataclass(frozen=True)
class Answered:
    """A model's answer to one prompt.

    Attributes:
        text: The answer.
        reason: "stop" where the model ended it, "length" where the limit did.
        prompt_tokens: Tokens of the prompt.
        tokens: Tokens of the answer.
        first_ms: Milliseconds until the first piece, by round.
        rates: Tokens per second of writing, by round; None where too little was written to tell.
        repeats: Whether every round gave the same text.
        right: Whether it is right; None where the prompt does not say what is.
    """

    text: str
    reason: str
    prompt_tokens: int
    tokens: int
    first_ms: tuple[float, ...]
    rates: tuple[float | None, ...]
    repeats: bool
    right: bool | None


@dataclass(frozen=True)
class Range:
    """A median over answers.

    Attributes:
        median: Over all answers of all rounds.
        low: Least median of a round.
        high: Greatest median of a round.
        rounds: Medians of the rounds.
    """

    median: float
    low: float
    high: float
    rounds: tuple[float, ...]

    @classmethod
    def of(cls, rounds: Sequence[Sequence[float]]) -> Range | None:
        """Summarise rounds; None where nothing was measured.

        Example:
            >>> Range.of([[9.0, 10.0, 11.0], [10.0, 12.0, 14.0]])
            Range(median=10.5, low=10.0, high=12.0, rounds=(10.0, 12.0))
        """
        measured = [statistics.median(each) for each in rounds if each]
        if not measured:
            return None
        whole = statistics.median([value for each in rounds for value in each])
        return cls(whole, min(measured), max(measured), tuple(measured))

    @property
    def spread(self) -> float:
        """How much larger the greatest round is than the least, as a share."""
        return self.high / self.low - 1 if self.low > 0 else 0.0


@dataclass(frozen=True)
class Compared:
    """One model of a comparison.

    Attributes:
        about: What it is: name, engine, bytes, parameters, format, digest, licence …
        answers: One per prompt, None where it was not answered.
        writes: Tokens per second of writing; None where not measured.
        first_ms: Milliseconds until the first piece.
        load_seconds: What loading took; None where it was not loaded, or behind a server.
        memory: Bytes that its process held after answering; None where that is not known.
        texts: Per text: name, tokens, perplexity, bits_per_byte with low and high.
        tasks: Per task: name, items, main, value, low, high; None where it was not asked.
        findings: Whatever else was found out about it.
        notes: What the reader should know.
        error: What ended its part; None where all went well.
    """

    about: Mapping[str, Any]
    answers: tuple[Answered | None, ...]
    writes: Range | None
    first_ms: Range | None
    load_seconds: float | None
    memory: int | None
    texts: tuple[Mapping[str, Any], ...]
    tasks: tuple[Mapping[str, Any] | None, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None

    @property
    def name(self) -> str:
        """The name it was asked for by."""
        return str(self.about["name"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"findings": [finding.to_dict() for finding in self.findings]}


@dataclass(frozen=True)
class Apart:
    """How one model differs from another.

    Attributes:
        value: The difference, or the ratio.
        low: Lower end of its interval of 95%.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Yardstick:
    """The figure that models are ranked by.

    Attributes:
        name: What it is, for people.
        unit: "bits per byte" or "share".
        higher: Whether more is better.
        values: One per model with its interval of 95%; None where it was not measured.
        apart: For each model, how each other one differs from it, paired where both answered the same.
        weak: Whether too little stands behind it to choose a model by it.
    """

    name: str
    unit: str
    higher: bool
    values: tuple[Apart | None, ...]
    apart: tuple[tuple[Apart | None, ...], ...]
    weak: bool = False


@dataclass(frozen=True)
class Comparison:
    """Several models side by side.

    Attributes:
        created: When it was begun, ISO 8601.
        models: In the order they were named; the first is the one that others are set against.
        prompts: What was asked.
        yardstick: What they are ranked by; None where nothing tells good from bad.
        ratios: How many times as fast as the first each writes, from answers to the same prompt in the same round.
        tasks: The questions of every task with what each model reached: what regressions are found in.
        opinion: What the judge thinks; None where there is none.
        setting: How it was measured.
        machine: What it was measured on.
        noise: Largest share by which two rounds' median speeds differ.
        repeat: How the figures moved since the same comparison was measured before; None where it was not.
        judge_failure: What kept the judge from its work; None where all went well.
        smidgen: The version that measured.
    """

    created: str
    models: tuple[Compared, ...]
    prompts: tuple[Mapping[str, Any], ...]
    yardstick: Yardstick | None
    ratios: tuple[Apart | None, ...]
    tasks: tuple[Mapping[str, Any], ...]
    opinion: Mapping[str, Any] | None
    setting: Mapping[str, Any]
    machine: Mapping[str, Any]
    noise: float
    repeat: Mapping[str, Any] | None = None
    judge_failure: str | None = None
    smidgen: str = ""

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of models whose part is not whole."""
        names = [model.name for model in self.models if model.error]
        return (*names, *(["the judge"] if self.judge_failure else []))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with the verdicts in words."""
        from smidgen.evaluate.comparing import verdicts

        plain = asdict(self) | {"format": 1, "models": [model.to_dict() for model in self.models]}
        return plain | verdicts.of(plain)

    def to_html(self) -> str:
        """Return the report: one page that needs nothing else."""
        from smidgen.evaluate.report import render_comparison

        return render_comparison(self.to_dict())


def answered(rounds: Sequence[Mapping[str, Any] | None], right: bool | None) -> Answered | None:
    """Put together what a model answered to one prompt in all rounds; None where the first is missing."""
    kept = [each for each in rounds if each is not None]
    if not kept or rounds[0] is None:
        return None
    first = kept[0]
    return Answered(
        text=first["text"],
        reason=first["reason"],
        prompt_tokens=first["prompt_tokens"],
        tokens=first["tokens"],
        first_ms=tuple(1000 * each["first_seconds"] for each in kept),
        rates=tuple(_rate(each) for each in kept),
        repeats=all(each["text"] == first["text"] for each in kept),
        right=right,
    )


def _rate(answer: Mapping[str, Any]) -> float | None:
    """Return tokens per second; None where a single piece came, so that nothing can be told."""
    return answer["tokens"] / answer["write_seconds"] if answer["write_seconds"] > 0 and answer["tokens"] > 1 else None


def by_round(answers: Sequence[Answered | None], name: str, rounds: int) -> list[list[float]]:
    """Return the values of all answers by round."""
    found: list[list[float]] = []
    for number in range(rounds):
        values = [getattr(each, name)[number] for each in answers if each and number < len(getattr(each, name))]
        found.append([value for value in values if value is not None])
    return found


def ratio(first: Sequence[Answered | None], second: Sequence[Answered | None]) -> Apart | None:
    """Return how many times as fast the second writes, from answers to the same prompt in the same round.

    The geometric mean of the ratios; its interval is that of resampling them.

    Example:
        >>> one, two = (Answered("", "stop", 1, 8, (1.0,), (rate,), True, None) for rate in (10.0, 20.0))
        >>> round(ratio([one, one], [two, two]).value, 6)
        2.0
    """
    pairs = [
        (slow, fast)
        for one, two in zip(first, second, strict=True)
        if one is not None and two is not None
        for slow, fast in zip(one.rates, two.rates, strict=False)
        if slow and fast
    ]
    if not pairs:
        return None
    slow, fast = ([math.log(pair[side]) for pair in pairs] for side in (0, 1))
    low, high, _ = bootstrap(slow, fast, rounds=2000)
    middle = statistics.fmean(fast) - statistics.fmean(slow)
    return Apart(math.exp(middle), math.exp(low), math.exp(high))
