"""Looks for the known weaknesses of models, and says what was found in numbers and plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, SmidgenError, Unsupported
from smidgen.evaluate import room, weaknesses
from smidgen.evaluate.findings import Finding
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.weaknesses._weakness import Weakness

LONGEST = 4096
"""Most tokens of context that are tried where nothing else is asked for."""


@dataclass(frozen=True)
class Examination:
    """What was found in one model.

    Attributes:
        name: The name it was asked for by.
        findings: One for each weakness that was looked for.
    """

    name: str
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"findings": [each.to_dict() for each in self.findings]}


def examine(
    *models: str,
    against: str | None = None,
    subjects: Subjects | None = None,
    only: Sequence[str] = (),
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> list[Examination]:
    """Look for weaknesses.

    Args:
        *models: Names, folders, ``.gguf`` files, or addresses of models behind servers, of which only those
            weaknesses show that show in what a model writes.
        against: The model they were made from, which is examined too and set beside them.
        subjects: What they are examined with; `default_subjects` where None.
        only: Names of weaknesses; all where empty.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: There is no such model or weakness.
        EngineFailed: The engine refuses a model.

    Example:
        (found,) = examine("small/model.gguf", against="smollm2:135m", only=["repetition"])
        print(found.findings[0].sentence)
    """
    if not models:
        raise InvalidInput("Examining needs a model.")
    wanted = weaknesses.chosen(only)
    subjects = subjects or default_subjects()
    seen = []
    for model in [*([] if against is None else [against]), *models]:
        with open_examined(model, subjects, threads, offline, progress) as examined:
            seen.append({name: _observed(weakness, examined, subjects) for name, weakness in wanted})
    source = None if against is None else seen.pop(0)
    return [
        Examination(model, tuple(_judged(name, weakness, own[name], source) for name, weakness in wanted))
        for model, own in zip(models, seen, strict=True)
    ]


def default_subjects(
    texts: Sequence[str | Path] = (),
    trained_on: str | Path | None = None,
    *,
    windows: int = 8,
    longest: int = LONGEST,
    seed: int = 0,
    judge: str | None = None,
    offline: bool = False,
) -> Subjects:
    """Return what models are examined with.

    Args:
        texts: Data of the domain, of which the first counts; the built-in held-out text if none.
        trained_on: What the model was trained on; where neither is named, the built-in text's calibration part.
        windows: At most so many windows of each text.
        longest: Most tokens of context that are tried.
        seed: Of everything drawn.
        judge: A model that reads what they write; none where None.
        offline: Take only what is on this machine.

    Raises:
        ReferenceNotFound: There is no such data.
        InvalidInput: A number is out of range.
    """
    from smidgen.data import builtin
    from smidgen.data.loading import load
    from smidgen.evaluate.examined import Subjects
    from smidgen.evaluate.windows import Text

    if windows < 2 or longest < 64:
        raise InvalidInput(
            f"{windows} windows and a context of {longest} tokens show nothing.", remedy="Give at least 2 and 64."
        )
    corpus = load(texts[0], offline=offline) if texts else builtin.held_out()
    taught = None
    if trained_on is not None:
        taught = load(trained_on, offline=offline)
    elif not texts:
        taught = builtin.calibration()
    return Subjects(Text.of(corpus), None if taught is None else Text.of(taught), windows, longest, seed, judge)


def open_examined(model: str, subjects: Subjects, threads: int | None, offline: bool, progress: Progress) -> Examined:
    """Find a model and what is needed to examine it; nothing is loaded yet."""
    from smidgen.evaluate.examined import Examined
    from smidgen.evaluate.measure import find_facts
    from smidgen.inference.remote_address import is_address
    from smidgen.inference.scoring import Subject

    settings: dict[str, Any] = {"threads": threads, "longest": subjects.longest, "progress": progress}
    if is_address(model):
        return Examined(model, None, reference=model, context=None, chats=True, **settings)
    facts = find_facts(model, "auto", offline, progress)
    room.require(facts, context=min(facts.context_length or subjects.longest, subjects.longest))
    return Examined(
        model,
        Subject(facts.path, depth=facts.depth),
        reference=facts.path,
        context=facts.context_length,
        chats=facts.chat_template,
        **settings,
    )


def _observed(weakness: Weakness[Any], model: Examined, subjects: Subjects) -> Any:
    """Look for one weakness; where it cannot be looked for, the reason is what was seen."""
    if weakness.needs_likelihoods and not model.scores:
        return Unsupported("A model behind a server does not say how likely texts are.")
    try:
        return weakness.observe(model, subjects)
    except Unsupported as reason:
        return reason


def _judged(name: str, weakness: Weakness[Any], seen: Any, source: dict[str, Any] | None) -> Finding:
    if isinstance(seen, SmidgenError):
        return Finding(name, None, weakness.unit, f"Not measured: {seen.message}")
    before = None if source is None or isinstance(source[name], SmidgenError) else source[name]
    return weakness.judge(seen, before)
