"""What is scored beside free answers: how well texts are foretold, and tasks with labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.remembering import Notebook
from smidgen.errors import Unsupported
from smidgen.evaluate.answering import Likelihoods, Writing
from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.comparing.asking import Panel
from smidgen.evaluate.comparing.contestants import Contestant
from smidgen.evaluate.quality import Losses, read_losses
from smidgen.evaluate.tasks import Exam, TaskScore, take
from smidgen.evaluate.windows import Text
from smidgen.inference.scoring import PromptScorer
from smidgen.progress import Progress

WINDOW_LENGTH = 512


@dataclass(frozen=True)
class Scoring:
    """What every model is scored on.

    Attributes:
        texts: Texts that are foretold.
        windows: At most so many windows of each.
        exams: Tasks with labels.
        threads: Threads to compute with.
        folder: Where answers to tasks and losses are kept, one file per model.
    """

    texts: tuple[Text, ...]
    windows: int
    exams: tuple[Exam, ...]
    threads: int | None
    folder: Path

    def notebook(self, contestant: Contestant) -> Notebook:
        """Return what is kept of a model."""
        return Notebook(self.folder / f"{contestant.identity}.jsonl")


@dataclass(frozen=True)
class Scores:
    """What one model reached; tasks that it cannot be asked are not among them.

    Attributes:
        losses: One entry per text.
        tasks: Scores by the number of the exam.
        notes: What could not be measured, and why.
    """

    losses: tuple[Losses, ...] = ()
    tasks: dict[int, TaskScore] | None = None
    notes: tuple[str, ...] = ()


def write_exams(panel: Panel, contestant: Contestant, scoring: Scoring, progress: Progress) -> dict[int, TaskScore]:
    """Score the tasks whose answers are written, with the model that has already been loaded for answering."""
    notebook, found = scoring.notebook(contestant), {}
    for number, exam in enumerate(scoring.exams):
        if exam.benchmark.writes and (contestant.sees or not exam.benchmark.shows_images):
            answering = _Written(panel, contestant, exam)
            found[number] = take(exam, contestant.name, answering, notebook, progress)
    return found


class _Written:
    """Loads the model when the first question is asked that nothing is kept of."""

    def __init__(self, panel: Panel, contestant: Contestant, exam: Exam) -> None:
        self._panel, self._contestant, self._benchmark = panel, contestant, exam.benchmark

    def answer(self, before: str, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that all stand behind the same text."""
        engine = self._panel.engine(self._contestant)
        return Writing(engine, self._benchmark.writes, self._benchmark.stops).answer(before, questions)


def score(contestant: Contestant, scoring: Scoring, written: dict[int, TaskScore], progress: Progress) -> Scores:
    """Read texts and answer tasks by likelihood, the model loaded once for all of it, and not at all if all is known.

    Args:
        contestant: The model.
        scoring: What it is scored on.
        written: What `write_exams` found.
        progress: Receives reports.
    """
    likely = [number for number, exam in enumerate(scoring.exams) if not exam.benchmark.writes]
    unseen = [exam.task for exam in scoring.exams if exam.benchmark.shows_images and not contestant.sees]
    notes = [f"It reads no images, so that {', '.join(unseen)} could not be measured."] if unseen else []
    if contestant.subject is None:
        missing = ["texts" if scoring.texts else "", *(scoring.exams[number].task for number in likely)]
        named = ", ".join(filter(None, missing))
        notes += [f"It gives no probabilities, so that {named} could not be measured."] if named else []
        return Scores(tasks=written, notes=tuple(notes))
    notebook, found = scoring.notebook(contestant), dict(written)
    with ExitStack() as stack:
        opened = _Likely(contestant, scoring, stack)
        losses = tuple(_losses(opened, text, scoring, notebook, progress) for text in scoring.texts)
        for number in likely:
            found[number] = take(scoring.exams[number], contestant.name, opened, notebook, progress)
    return Scores(losses, found, tuple(notes))


class _Likely:
    """A model that is loaded as a scorer when the first thing is asked that nothing is kept of."""

    def __init__(self, contestant: Contestant, scoring: Scoring, stack: ExitStack) -> None:
        self._contestant, self._scoring, self._stack = contestant, scoring, stack
        self._scorer: PromptScorer | None = None
        self._likelihoods: Likelihoods | None = None

    @property
    def cut(self) -> int:
        """Prompts that lost their beginning."""
        return self._likelihoods.cut if self._likelihoods else 0

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return min(WINDOW_LENGTH, self._contestant.context)

    def scorer(self) -> PromptScorer:
        """Return the loaded model."""
        if self._scorer is None:
            subject = self._contestant.subject
            if subject is None:
                raise Unsupported(f"{self._contestant.name} gives no probabilities.")
            # Texts alone need no more than a window, and give the figures of `smidgen measure`.
            context = self._contestant.context if self._scoring.exams else self.length
            opened = PromptScorer(subject, threads=self._scoring.threads, context=context)
            self._scorer = self._stack.enter_context(opened)
            self._likelihoods = Likelihoods(self._scorer)
        return self._scorer

    def answer(self, before: str, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions that all stand behind the same text."""
        self.scorer()
        assert self._likelihoods is not None
        return self._likelihoods.answer(before, questions)


def _losses(opened: _Likely, text: Text, scoring: Scoring, notebook: Notebook, progress: Progress) -> Losses:
    key = json.dumps(["text", text.sha256, scoring.windows, opened.length, scoring.threads])
    if key not in notebook.known:
        read = read_losses(opened.scorer(), text, windows=scoring.windows, length=opened.length, progress=progress)
        notebook.keep(key, read.to_dict())
    kept = notebook.known[key]
    return Losses(**(kept | {"text": text.name, "nats": tuple(kept["nats"])}))
