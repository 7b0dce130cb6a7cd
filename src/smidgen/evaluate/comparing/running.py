"""Runs a comparison: asks, scores, judges, and puts together what was found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from smidgen import machine
from smidgen.errors import SmidgenError
from smidgen.evaluate.comparing import judging, yardsticks
from smidgen.evaluate.comparing.asking import Asking, Panel, ask, groups
from smidgen.evaluate.comparing.contestants import Contestant
from smidgen.evaluate.comparing.keeping import Kept, against_earlier
from smidgen.evaluate.comparing.prompts import Prompt
from smidgen.evaluate.comparing.results import NOISY, Answered, Compared, Comparison, Range, answered, by_round, ratio
from smidgen.evaluate.comparing.scoring import Scores, Scoring, score, write_exams
from smidgen.evaluate.findings import Finding, Z, share_interval
from smidgen.progress import Progress

if TYPE_CHECKING:
    from smidgen.evaluate.compare import CompareSetting
    from smidgen.evaluate.comparing.judging import Opinion
    from smidgen.evaluate.tasks import Exam, TaskScore
    from smidgen.evaluate.windows import Text


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes:
        contestants: The models.
        referee: The judge; None where there is none.
        prompts: What is asked.
        exams: Tasks with labels.
        texts: Texts that are foretold.
        setting: How often, how long, within what.
        threads: Threads to compute with.
        prompts_file: Where the prompts come from; None for those that come with smidgen or with the call.
    """

    contestants: tuple[Contestant, ...]
    referee: Contestant | None
    prompts: tuple[Prompt, ...]
    exams: tuple[Exam, ...]
    texts: tuple[Text, ...]
    setting: CompareSetting
    threads: int | None
    prompts_file: str | None = None

    @property
    def asked(self) -> str:
        """What the answers are known by: everything that they and their speed depend on."""
        setting = self.setting
        parts: list[Any] = [setting.rounds, setting.tokens, setting.seed, self.threads]
        parts += [[each.identity for each in self.contestants], [prompt.text for prompt in self.prompts]]
        return _digest(parts)

    @property
    def key(self) -> str:
        """What the comparison is known by: everything that its figures depend on."""
        from smidgen.evaluate.tasks import question_keys

        known = asdict(replace(self.setting, fresh=False, max_memory=None, texts=()))
        parts: list[Any] = [known, self.asked, [text.sha256 for text in self.texts]]
        parts += [self.referee.identity if self.referee else None, [prompt.to_dict() for prompt in self.prompts]]
        return _digest([*parts, [question_keys(exam) for exam in self.exams]])

    @property
    def asking(self) -> Asking:
        """How prompts are put."""
        setting = self.setting
        return Asking(self.prompts, setting.tokens, setting.rounds, setting.seed, self.threads)

    @property
    def room(self) -> int:
        """Bytes of memory that loaded models may take."""
        return machine.memory()[1] if self.setting.max_memory is None else self.setting.max_memory


@dataclass
class _Found:
    """What was measured so far, by the model's name."""

    failures: dict[str, str]
    written: dict[str, dict[int, TaskScore]]
    memory: dict[str, int | None]
    loaded: dict[str, float]
    scores: dict[str, Scores]
    findings: dict[str, tuple[Finding, ...]]
    opinion: Opinion | None = None
    together: bool = True


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def run(plan: Plan, progress: Progress) -> Comparison:
    """Measure what is not kept yet, and put everything together."""
    from smidgen.models.store import default_root

    kept = Kept(default_root(), plan.asked, plan.key, fresh=plan.setting.fresh)
    _machine(kept)
    scoring = Scoring(plan.texts, plan.setting.windows, plan.exams, plan.threads, kept.scores)
    found = _Found({}, {}, {}, {}, {}, {})
    _ask(plan, scoring, kept, found, progress)
    _score(plan, scoring, found, progress)
    if plan.setting.weaknesses:
        _examine(plan, kept, found, progress)
    answers = _answers(plan, kept)
    if plan.referee is not None:
        _judge(plan, plan.referee, answers, kept, found, progress)
    comparison = _assemble(plan, kept, found, answers)
    if kept.earlier is not None:
        now = json.loads(json.dumps(comparison.to_dict(), default=str))
        comparison = replace(comparison, repeat=against_earlier(kept.earlier, now))
    if not comparison.failed:
        kept.finish(comparison.to_dict())
    return comparison


def _ask(plan: Plan, scoring: Scoring, kept: Kept, found: _Found, progress: Progress) -> None:
    """Let all models answer, each loaded once, as many at the same time as memory holds."""
    divided = groups(plan.contestants, plan.room)
    found.together = len(divided) == 1
    with Panel(plan.threads, found.failures) as panel:
        for group in divided:
            ask(panel, group, plan.asking, kept.notebook, progress)
            for contestant in group:

                def work(contestant: Contestant = contestant) -> None:
                    found.written[contestant.name] = write_exams(panel, contestant, scoring, progress)

                panel.tried(contestant, work)
                if panel.is_open(contestant) and contestant.name not in found.failures:
                    held = [panel.resident_bytes(contestant), panel.loaded[contestant.name]]
                    kept.notebook.keep(f"held {contestant.identity}", held)
                known = kept.notebook.known.get(f"held {contestant.identity}", [None, None])
                found.memory[contestant.name], found.loaded[contestant.name] = known
            panel.close(group)


def _score(plan: Plan, scoring: Scoring, found: _Found, progress: Progress) -> None:
    for contestant in plan.contestants:
        if contestant.name in found.failures:
            continue
        try:
            written = found.written.get(contestant.name, {})
            found.scores[contestant.name] = score(contestant, scoring, written, progress)
        except SmidgenError as error:
            found.failures[contestant.name] = str(error)


def _examine(plan: Plan, kept: Kept, found: _Found, progress: Progress) -> None:
    """Look for the known weaknesses of each model."""
    from smidgen.evaluate.examine import default_subjects, examine

    judge = plan.referee.name if plan.referee and plan.referee.subject else None
    subjects = default_subjects(judge=judge)
    for contestant in plan.contestants:
        key = f"findings {contestant.identity}" + (f" {plan.referee.identity}" if judge and plan.referee else "")
        try:
            if contestant.name not in found.failures and key not in kept.notebook.known:
                (seen,) = examine(contestant.name, subjects=subjects, threads=plan.threads, progress=progress)
                kept.notebook.keep(key, [finding.to_dict() for finding in seen.findings])
        except SmidgenError as error:
            found.failures[contestant.name] = str(error)
        known = kept.notebook.known.get(key, [])
        found.findings[contestant.name] = tuple(Finding.from_dict(each) for each in known)


def _answers(plan: Plan, kept: Kept) -> list[tuple[Answered | None, ...]]:
    """Return every model's answers, as far as they are there."""

    def one(contestant: Contestant, prompt: Prompt) -> Answered | None:
        keys = [plan.asking.key(contestant, prompt, number) for number in range(plan.setting.rounds)]
        rounds = [kept.notebook.known.get(key) for key in keys]
        return answered(rounds, prompt.right(rounds[0]["text"]) if rounds[0] else None)

    return [tuple(one(contestant, prompt) for prompt in plan.prompts) for contestant in plan.contestants]


def _judge(
    plan: Plan,
    referee: Contestant,
    answers: Sequence[Sequence[Answered | None]],
    kept: Kept,
    found: _Found,
    progress: Progress,
) -> None:
    with Panel(plan.threads, {}) as panel:
        try:
            found.opinion = judging.judge(
                referee,
                [prompt.text for prompt in plan.prompts],
                [[each.text if each else None for each in own] for own in answers],
                kept.notebook,
                open_judge=lambda: panel.engine(referee),
                taking_part=any(each.name == referee.name for each in plan.contestants),
                progress=progress,
            )
        except SmidgenError as error:
            found.failures[f"the judge {referee.name}"] = str(error)


def _assemble(plan: Plan, kept: Kept, found: _Found, answers: Sequence[tuple[Answered | None, ...]]) -> Comparison:
    """Put together what was found."""
    from importlib.metadata import version

    scores = [found.scores.get(contestant.name, Scores()) for contestant in plan.contestants]
    models = tuple(_compared(plan, found, *each) for each in zip(plan.contestants, answers, scores, strict=True))
    spreads = [model.writes.spread for model in models if model.writes]
    return Comparison(
        created=kept.created,
        models=models,
        prompts=tuple(prompt.to_dict() for prompt in plan.prompts),
        yardstick=yardsticks.choose(scores, answers, found.opinion),
        ratios=tuple(ratio(answers[0], own) if own is not answers[0] else None for own in answers),
        tasks=_items(plan, scores),
        opinion=found.opinion.to_dict() if found.opinion else None,
        setting=_setting(plan, found),
        machine=_machine(kept),
        noise=max(spreads, default=0.0),
        judge_failure=found.failures.get(f"the judge {plan.referee.name}") if plan.referee else None,
        smidgen=version("smidgen"),
    )


def _machine(kept: Kept) -> dict[str, Any]:
    """Return what measured: the machine as it was when the comparison was begun, without what changes all the time."""
    if "machine" not in kept.notebook.known:
        found = machine.inspect().to_dict()
        lasting = {key: each for key, each in found.items() if key not in _MOMENTARY}
        kept.notebook.keep("machine", json.loads(json.dumps(lasting)))
    known: dict[str, Any] = kept.notebook.known["machine"]
    return known


_MOMENTARY = ("memory_available", "disk_free")


def _compared(
    plan: Plan, found: _Found, contestant: Contestant, answers: tuple[Answered | None, ...], scores: Scores
) -> Compared:
    rounds = plan.setting.rounds
    tasks = scores.tasks or {}
    return Compared(
        about=contestant.to_dict(),
        answers=answers,
        writes=Range.of(by_round(answers, "rates", rounds)),
        first_ms=Range.of(by_round(answers, "first_ms", rounds)),
        load_seconds=found.loaded.get(contestant.name) if contestant.facts else None,
        memory=found.memory.get(contestant.name),
        texts=tuple(_text(each) for each in scores.losses),
        tasks=tuple(_task(tasks[number]) if number in tasks else None for number in range(len(plan.exams))),
        findings=found.findings.get(contestant.name, ()),
        notes=scores.notes,
        error=found.failures.get(contestant.name),
    )


def _text(losses: Any) -> dict[str, Any]:
    value, error = losses.bits()
    whole = losses.quality()
    return {
        "name": losses.text,
        "sha256": losses.sha256,
        "tokens": whole.tokens,
        "windows": whole.windows,
        "length": whole.length,
        "perplexity": whole.perplexity,
        "bits_per_byte": whole.bits_per_byte,
        "low": value - Z * error,
        "high": value + Z * error,
    }


def _task(reached: TaskScore) -> dict[str, Any]:
    figure = reached.figures[reached.main]
    values = [each[reached.main] for each in reached.scores]
    low, high = figure.value - Z * figure.standard_error, figure.value + Z * figure.standard_error
    if set(values) <= {0.0, 1.0}:
        low, high = share_interval(int(sum(values)), len(values))
    return {
        "name": reached.task,
        "items": reached.items,
        "main": reached.main,
        "value": figure.value,
        "low": max(0.0, low),
        "high": min(1.0, high),
        "cut": reached.cut,
        "figures": {name: asdict(each) for name, each in reached.figures.items()},
    }


def _items(plan: Plan, scores: Sequence[Scores]) -> tuple[Mapping[str, Any], ...]:
    """Return each task's questions and what every model reached on each, None where it was not asked."""
    found = []
    for number, exam in enumerate(plan.exams):
        reached = [(each.tasks or {}).get(number) for each in scores]
        found.append(
            {
                "name": exam.task,
                "file": exam.file,
                "shots": exam.shots,
                "questions": [question.prompts[0] for question in exam.questions],
                "right": [
                    list(question.references) or [question.choices[place] for place in question.right]
                    for question in exam.questions
                ],
                "scores": [[item[each.main] for item in each.scores] if each else None for each in reached],
            }
        )
    return tuple(found)


def _setting(plan: Plan, found: _Found) -> dict[str, Any]:
    setting = plan.setting
    return {
        "rounds": setting.rounds,
        "tokens": setting.tokens,
        "windows": setting.windows,
        "seed": setting.seed,
        "temperature": 0,
        "threads": plan.threads or machine.cores()[0],
        "together": found.together,
        "noisy": NOISY,
        "judge": plan.referee.name if plan.referee else None,
        "judge_orders": 2 if plan.referee else None,
        "prompts_file": plan.prompts_file,
        "texts": list(setting.texts),
        "weaknesses": setting.weaknesses,
    }
