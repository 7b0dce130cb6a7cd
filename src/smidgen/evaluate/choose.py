"""Which public small model suits a task, a machine, a licence, a context and a language, and which do not, and why.

Who does not meet a demand is ruled out with the reason. Those that are left are ranked by their published figures on
the task's benchmarks: each figure counts as the share of the catalog's models that it beats, since figures of
different benchmarks cannot be averaged as they are. A model without such figures comes after all that have some, and
where no speed is asked one that writes slower than people read loses rank.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import log2
from typing import Any

from smidgen import registry
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate.calibrate import Calibration
from smidgen.evaluate.estimate import Estimate, estimate, formats_of
from smidgen.models import catalog

LICENCES = ("any", "commercial", "permissive")
PLACES = ("phone", "edge", "laptop", "server", "air-gapped")
INTEGRATIONS = ("ollama", "openai", "json", "langchain")
PRIVACIES = ("local", "stored")

COMFORTABLE_SPEED = 10.0
"""Tokens per second that suffice where no speed is asked: faster than most people read."""

SOUND_BITS = 4.0
"""Bits per weight below which a model loses much."""

SQUEEZED = -0.1
"""What a model's rank loses that fits only below `SOUND_BITS`."""

SLOWER = -0.15
"""What a model's rank loses, where no speed is asked, for each halving of `COMFORTABLE_SPEED` down to its own."""

SPECIALIST, STRANGER = 0.15, -0.3
"""What a model's rank gains that was made for the task's kind of work, and loses that was made for another."""

_MANY = "many others"


@dataclass(frozen=True)
class Task:
    """What a task asks of a model.

    Attributes:
        says: What it is, for the list of tasks.
        benchmarks: Published figures that speak for it.
        instruct: Whether the model must follow instructions as it is.
        context: Tokens that it needs where nobody says.
        specialties: Kinds of models made for it.
        modality: What the model must read besides text.
    """

    says: str
    benchmarks: tuple[str, ...]
    instruct: bool = True
    context: int = 4096
    specialties: tuple[str, ...] = ()
    modality: str = "text"


_TALK = ("ifeval", "mmlu_pro", "mmlu")
_LEARNT = ("mmlu", "mmlu_pro", "bbh")
TASKS: Mapping[str, Task] = {
    "chat": Task("talk and help", _TALK),
    "answer": Task("answer questions", ("mmlu", "mmlu_pro", "gpqa", "ifeval")),
    "summarize": Task("shorten texts", ("ifeval", "tldr9", "mmlu_pro", "mmlu"), context=8192),
    "rewrite": Task("rewrite texts", _TALK),
    "write": Task("write texts", _TALK),
    "translate": Task("translate", ("mgsm", *_TALK)),
    "extract": Task("take fields out of texts, as JSON", _TALK, context=8192),
    "classify": Task("sort texts into classes, after training", _LEARNT, instruct=False, context=2048),
    "sentiment": Task("tell the mood of texts, after training", _LEARNT, instruct=False, context=2048),
    "moderate": Task("find texts against the rules, after training", _LEARNT, instruct=False, context=2048),
    "redact": Task("black out personal data", _TALK),
    "recommend": Task("recommend things", _TALK),
    "grammar": Task("correct language", _TALK, context=2048),
    "vocabulary": Task("teach words", _TALK, context=2048),
    "code": Task("write programs", ("humaneval",), specialties=("code",), context=8192),
    "math": Task("calculate", ("gsm8k", "math", "math_500", "math_hard"), specialties=("math", "reasoning")),
    "reason": Task("think in steps", ("gpqa", "gpqa_diamond", "bbh", "math"), specialties=("reasoning", "math")),
    "documents": Task("read scans and photos", ("ocrbench",), specialties=("documents",), modality="image"),
}


@dataclass(frozen=True)
class Needs:
    """What is asked; None where nothing is.

    Attributes:
        task: One of `TASKS`.
        memory: Bytes that weights, cache and engine may take together.
        speed: Least tokens per second of writing.
        licence: One of `LICENCES`, or a licence's identifier.
        languages: Codes of the languages it must know.
        context: Tokens that its context must hold.
        stored: Names of the models at hand, where only these may be used.
    """

    task: str = "chat"
    memory: int | None = None
    speed: float | None = None
    licence: str = "any"
    languages: tuple[str, ...] = ()
    context: int | None = None
    stored: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Refuse what no model could be held against."""
        if self.task not in TASKS:
            raise ReferenceNotFound.among("task", self.task, TASKS)
        if self.licence not in LICENCES and self.licence not in catalog.licences():
            raise ReferenceNotFound.among("licence", self.licence, {*LICENCES, *catalog.licences()})
        if self.context is not None and not 1 <= self.context <= 10_000_000:
            raise InvalidInput(f"A context of {self.context} tokens is not possible.", remedy="Write it like 8192.")

    @property
    def tokens(self) -> int:
        """Tokens that the context must hold."""
        return self.context or TASKS[self.task].context


@dataclass(frozen=True)
class Suggestion:
    """A model that meets all demands.

    Attributes:
        name: Its name in the catalog.
        title: Its name in words.
        reference: What to write after ``smidgen pull``.
        quality: Mean share of the catalog's models that its figures on the task's benchmarks beat; None: no figures.
        scores: Those figures, in percent.
        estimate: Expected memory and speed; None where not even its count of weights is known.
        reasons: Why it is here, and what to mind.
        steps: What to run next.
    """

    name: str
    title: str
    reference: str
    quality: float | None
    scores: dict[str, float]
    estimate: Estimate | None
    reasons: tuple[str, ...]
    steps: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"estimate": self.estimate.to_dict() if self.estimate else None}


@dataclass(frozen=True)
class Choice:
    """The answer.

    Attributes:
        suggestions: Models that meet all demands, the best first.
        ruled_out: Why each of the others does not, by its name.
    """

    suggestions: tuple[Suggestion, ...]
    ruled_out: Mapping[str, str] = field(default_factory=dict)


def choose(needs: Needs, on: Calibration) -> Choice:
    """Hold every model of the catalog against what is asked.

    Args:
        needs: What is asked.
        on: The machine it is to run on.

    Example:
        >>> slow = Calibration(bandwidth=10e9, flops=50e9, threads=2)
        >>> found = choose(Needs("chat", memory=400_000_000, licence="permissive"), slow)
        >>> found.ruled_out["llama3.2:1b"], found.ruled_out["qwen3:8b"][:14]
        ('licence llama3.2 is not permissive', 'needs at least')
    """
    suggestions: list[Suggestion] = []
    ruled_out: dict[str, str] = {}
    for name, entry in catalog.entries().items():
        reason = next((said for check in _CHECKS if (said := check(entry, needs))), None)
        found = None if reason else _fitting(entry, needs, on)
        if isinstance(found, str):
            reason = found
        if reason:
            ruled_out[name] = reason
        else:
            suggestions.append(_suggestion(entry, needs, None if isinstance(found, str) else found))
    return Choice(tuple(sorted(suggestions, key=lambda each: _rank(each, needs))), ruled_out)


def _rank(suggestion: Suggestion, needs: Needs) -> tuple[bool, float, float]:
    """Return what suggestions are sorted by: known figures first, then the better, then the smaller."""
    specialty = catalog.entries()[suggestion.name].specialty
    bonus = 0.0 if specialty is None else SPECIALIST if specialty in TASKS[needs.task].specialties else STRANGER
    known = suggestion.quality is not None or bonus > 0
    bonus += SQUEEZED if suggestion.estimate and suggestion.estimate.bits < SOUND_BITS else 0.0
    bonus += SLOWER * _halvings(suggestion.estimate) if needs.speed is None else 0.0
    memory = suggestion.estimate.memory if suggestion.estimate else float("inf")
    return (not known, -((suggestion.quality or 0.0) + bonus), memory)


def _halvings(expected: Estimate | None) -> float:
    """Return how often the comfortable speed must be halved to get a model's own; 0 where it is at least that."""
    return max(0.0, log2(COMFORTABLE_SPEED / expected.tokens_per_second)) if expected else 0.0


def _wrong_kind(entry: catalog.Entry, needs: Needs) -> str | None:
    task = TASKS[needs.task]
    if task.modality not in entry.modalities:
        return f"reads no {task.modality}s"
    if task.instruct and not entry.instruct:
        return "is a base model, which does not follow instructions"
    if needs.stored is not None and entry.name not in needs.stored and entry.base_model not in needs.stored:
        return "is not in the store"
    return None


def _wrong_licence(entry: catalog.Entry, needs: Needs) -> str | None:
    if needs.licence == "any" or needs.licence == entry.licence:
        return None
    if entry.licence is None or entry.terms is None:
        return "its licence is not known here"
    if needs.licence == "permissive":
        return None if entry.terms.permissive else f"licence {entry.licence} is not permissive"
    if needs.licence == "commercial":
        if entry.terms.commercial is None:
            return f"what licence {entry.licence} says of commercial use is not known here"
        return f"licence {entry.licence} forbids commercial use" if entry.terms.commercial == "no" else None
    return f"its licence is {entry.licence}"


def _wrong_language(entry: catalog.Entry, needs: Needs) -> str | None:
    if not entry.languages or _MANY in entry.languages:
        return None
    missing = [language for language in needs.languages if language not in entry.languages]
    return f"was not published for {', '.join(missing)}" if missing else None


def _short_context(entry: catalog.Entry, needs: Needs) -> str | None:
    if entry.context_length is None or entry.context_length >= needs.tokens:
        return None
    return f"its context ends at {entry.context_length:,} tokens"


_CHECKS: tuple[Callable[[catalog.Entry, Needs], str | None], ...] = (
    _wrong_kind,
    _wrong_licence,
    _wrong_language,
    _short_context,
)


def _fitting(entry: catalog.Entry, needs: Needs, on: Calibration) -> Estimate | str | None:
    """Return the widest format that memory and speed allow, or why none does; None where no count is known."""
    expected = [each for name in formats_of(entry) if (each := estimate(entry, name, needs.tokens, on))]
    if not expected:
        return None if needs.memory is None and needs.speed is None else "its count of weights is not known here"
    small = [each for each in expected if needs.memory is None or each.memory <= needs.memory]
    if not small:
        least = min(each.memory for each in expected)
        return f"needs at least {least / 1e6:,.0f} MB"
    fast = [each for each in small if needs.speed is None or each.tokens_per_second >= needs.speed]
    if not fast:
        return f"writes at most {max(each.tokens_per_second for each in small):.1f} tokens/s here"
    # Below 4 bits quality suffers, so such a format is taken only where no wider one meets the demands.
    sound = [each for each in fast if each.bits >= SOUND_BITS] or fast
    comfortable = [each for each in sound if needs.speed or each.tokens_per_second >= COMFORTABLE_SPEED]
    return comfortable[0] if comfortable else sound[-1]


@cache
def _figures(benchmark: str) -> tuple[float, ...]:
    known = (entry.score(benchmark) for entry in catalog.entries().values())
    return tuple(sorted(value for value in known if value is not None))


def quality_of(entry: catalog.Entry, benchmarks: Collection[str]) -> tuple[float | None, dict[str, float]]:
    """Return how much of the catalog a model's figures beat on average, and the figures themselves.

    Args:
        entry: The model.
        benchmarks: The benchmarks that count.

    Returns:
        The mean share, 0 to 1, None without any figure; and the figures in percent.
    """
    found = {name: value for name in benchmarks if (value := entry.score(name)) is not None}
    if not found:
        return None, {}
    shares = [bisect_left(_figures(name), value) / max(1, len(_figures(name)) - 1) for name, value in found.items()]
    return round(sum(shares) / len(shares), 3), found


def makeable(entry: catalog.Entry) -> bool:
    """Say whether smidgen can take a model of this family apart, and so make a smaller one of it."""
    return entry.family in registry.names("smidgen.models.families")


def _suggestion(entry: catalog.Entry, needs: Needs, expected: Estimate | None) -> Suggestion:
    task = TASKS[needs.task]
    quality, scores = quality_of(entry, task.benchmarks)
    reasons = [f"{name} {value:g}%" for name, value in scores.items()] or ["no published figures for this task here"]
    if entry.specialty:
        reasons.append(f"made for {entry.specialty}")
    if needs.languages and (not entry.languages or _MANY in entry.languages):
        unsure = [language for language in needs.languages if language not in entry.languages]
        reasons += [f"whether it knows {', '.join(unsure)} is not said"] if unsure else []
    if entry.context_length is None:
        reasons.append("its longest context is not known here")
    if entry.terms is not None and entry.terms.forbids:
        reasons.append(f"licence: {entry.terms.forbids[0]}")
    elif entry.licence is None:
        reasons.append("its licence is not known here")
    if expected is not None and expected.bits < SOUND_BITS:
        reasons.append(f"fits only below {SOUND_BITS:g} bits per weight, which costs quality")
    if expected is not None and needs.speed is None and _halvings(expected) > 1:
        reasons.append("writes slower than people read")
    if expected is not None and expected.cache is None:
        reasons.append("memory without its cache, whose size is not known here")
    steps = [f"smidgen pull {entry.reference}"]
    if expected is not None and makeable(entry):
        speed = f" --speed {needs.speed:g}tok/s" if needs.speed else ""
        steps.append(
            f"smidgen make {entry.reference} --fit {expected.weights // 10**6 + 1}MB{speed} --for YOUR_DATA.jsonl"
        )
    return Suggestion(entry.name, entry.title, entry.reference, quality, scores, expected, tuple(reasons), tuple(steps))
