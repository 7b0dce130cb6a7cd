"""Scores of models on tasks with labels, from the user's files, every answer kept so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from smidgen.data.records import Record, read_records
from smidgen.data.remembering import Notebook
from smidgen.errors import InvalidInput, ReferenceNotFound, SmidgenError, Unsupported
from smidgen.evaluate import benchmarks
from smidgen.evaluate.answering import Answering
from smidgen.evaluate.benchmarks._benchmark import Answer, Benchmark, Question
from smidgen.evaluate.tally import standard_error
from smidgen.progress import Event, Progress, silent, track

if TYPE_CHECKING:
    from smidgen.evaluate.paired import Difference

SEED = 1234
"""Seed with which lm-evaluation-harness draws worked examples."""

_TOGETHER = 16  # questions asked at a time, then kept; an answer that is written is kept as it comes


@dataclass(frozen=True)
class Figure:
    """A mean over questions.

    Attributes:
        value: The mean.
        standard_error: Its standard error, 0 for a single question.
    """

    value: float
    standard_error: float


@dataclass(frozen=True)
class Exam:
    """The questions of one file, each with the text before it.

    Attributes:
        task: Name of the benchmark.
        file: Name of the file.
        benchmark: The benchmark.
        shots: Worked examples before each question.
        questions: The questions.
        before: For each the text before its prompt: introduction and worked examples.
    """

    task: str
    file: str
    benchmark: Benchmark
    shots: int
    questions: tuple[Question, ...]
    before: tuple[str, ...]


@dataclass(frozen=True)
class TaskScore:
    """How a model did on a task.

    Attributes:
        model: Its name.
        task: Name of the benchmark.
        file: Name of the file.
        items: Count of questions.
        shots: Worked examples before each.
        main: The figure that stands for all.
        figures: Means over the questions.
        details: Figures that are no such means.
        scores: Each question's figures, in the order of the file.
        cut: Prompts that lost their beginning, not counting those answered from what was kept.
    """

    model: str
    task: str
    file: str
    items: int
    shots: int
    main: str
    figures: dict[str, Figure]
    details: dict[str, Any]
    scores: tuple[dict[str, float], ...]
    cut: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def against(self, source: TaskScore) -> Difference:
        """Return how much better this model did than another on the same questions, by the main figure.

        Raises:
            InvalidInput: They answered other questions.
        """
        from smidgen.evaluate.paired import difference

        if (self.task, self.file, self.items, self.shots) != (source.task, source.file, source.items, source.shots):
            raise InvalidInput("Scores of other questions cannot be compared in pairs.")
        return difference([each[self.main] for each in source.scores], [each[self.main] for each in self.scores])


def read_exam(
    task: str,
    file: Path | str,
    *,
    examples: Path | str | None = None,
    limit: int | None = None,
    shots: int | None = None,
    allow_code_execution: bool = False,
    images: Path | str | None = None,
) -> Exam:
    """Read a task's questions.

    Args:
        task: Name of the benchmark.
        file: The labelled rows, JSONL or CSV.
        examples: Rows that worked examples are taken from.
        limit: At most so many questions, the first ones of the file.
        shots: Worked examples before each question; the task's own number where None.
        allow_code_execution: Run generated programs also where this system cannot keep them from harm.
        images: Folder of the images that rows name; the file's own where None.

    Raises:
        ReferenceNotFound: There is no such task, file or image; the message says what to give.
        InvalidInput: A row is malformed, or examples are wanted and not given.
        Unsupported: The task runs programs, and nothing would hold them here.
    """
    benchmark = benchmarks.find(task)
    if benchmark.runs_programs and not allow_code_execution:
        _require_sandbox(task)
    if limit is not None and limit < 1:
        raise InvalidInput(f"The first {limit} rows are no questions.", remedy="Give a limit of 1 at least.")
    if shots is not None and shots < 0:
        raise InvalidInput(f"{shots} worked examples are too few.", remedy="Give 0 at least.")
    shots = benchmark.shots if shots is None else shots
    records = _records(benchmark, task, file)
    with _telling_fields(benchmark):
        benchmark = benchmark.prepared(records)
        asked = benchmark.asked(records)
        if not asked:
            raise InvalidInput(f"{file} has no row of the part that {task} asks ({benchmark.source}).")
        questions = [benchmark.question(record) for record in asked[:limit]]
    if benchmark.shows_images:
        folder = Path(file).expanduser().parent if images is None else Path(images).expanduser()
        questions = [_with_images(*pair, folder) for pair in zip(questions, asked, strict=False)]
    pool: list[Question] = []
    if shots:
        if examples is None:
            raise InvalidInput(
                f"The task {task} is asked with {shots} worked examples, and no file of them was given.",
                remedy="Give one with --few-shot-file, or --few-shot 0.",
            )
        given = _records(benchmark, task, examples)
        with _telling_fields(benchmark):
            pool = [benchmark.question(record) for record in benchmark.shown(given)]
    before = _examples(benchmark, questions, pool, shots)
    return Exam(task, Path(file).name, benchmark, shots, tuple(questions), tuple(before))


def take(exam: Exam, model: str, answering: Answering, notebook: Notebook, progress: Progress = silent) -> TaskScore:
    """Let a model answer all questions and score its answers.

    Args:
        exam: The questions.
        model: Its name.
        answering: What answers.
        notebook: Keeps every answer; what stands in it is not asked again.
        progress: Told after each group of questions.
    """
    keys = question_keys(exam)
    open_ones = [number for number, key in enumerate(keys) if key not in notebook.known]
    total, stage = len(keys), f"{exam.task} with {model}"
    progress(Event(stage, total - len(open_ones), total, "questions"))
    done = total - len(open_ones)
    together = 1 if exam.benchmark.writes else _TOGETHER
    for before, numbers in _alike(exam, open_ones).items():
        for begin in range(0, len(numbers), together):
            part = numbers[begin : begin + together]
            try:
                answers = answering.answer(before, [exam.questions[number] for number in part])
            except SmidgenError as error:
                if done:
                    kept = f"{done:,} of {total:,} answers are kept; the same command goes on with the others."
                    error.remedy = f"{error.remedy} {kept}" if error.remedy else kept
                raise
            notebook.keep_all({keys[number]: asdict(answer) for number, answer in zip(part, answers, strict=True)})
            done += len(part)
            progress(Event(stage, done, total, "questions"))
    answers = [_answer(notebook.known[key]) for key in keys]
    scores = _score(exam, answers, progress if exam.benchmark.runs_programs else silent)
    return TaskScore(
        model=model,
        task=exam.task,
        file=exam.file,
        items=total,
        shots=exam.shots,
        main=exam.benchmark.main,
        figures={name: _figure([each[name] for each in scores]) for name in scores[0]},
        details=exam.benchmark.summary(exam.questions, answers),
        scores=tuple(scores),
        cut=getattr(answering, "cut", 0),
    )


def _records(benchmark: Benchmark, task: str, file: Path | str) -> tuple[Record, ...]:
    try:
        return read_records(file)
    except ReferenceNotFound as error:
        raise ReferenceNotFound(
            error.message,
            remedy=f"The task {task} takes a JSONL, JSON or CSV file with {benchmark.expects}"
            + (f" (public: {benchmark.source})." if "/" in benchmark.source else "."),
        ) from None


def _with_images(question: Question, record: Record, folder: Path) -> Question:
    """Return a question with the files of its images, which lie within a folder.

    Raises:
        ReferenceNotFound: One is not there.
        InvalidInput: One lies elsewhere.
    """
    files = tuple(folder / name for name in question.images)
    for name, file in zip(question.images, files, strict=True):
        if not file.resolve().is_relative_to(folder.resolve()):
            raise record.error(f"names the image {str(name)!r}, which does not lie within {folder}")
        if not file.is_file():
            raise ReferenceNotFound(
                f"{record.place} names the image {str(name)!r}, which is not in {folder}.",
                remedy="Give the folder that such paths begin in: --images FOLDER.",
            )
    return replace(question, images=files)


def _require_sandbox(task: str) -> None:
    """Refuse to run generated programs where nothing would hold them."""
    from smidgen import sandbox

    held = sandbox.protection()
    if not held.enough:
        lacking = [
            name
            for name, there in (
                ("limits of time and memory", held.limits),
                ("a way to forbid processes", held.processes),
                ("a way to cut off the network", held.network not in ("", "Python only")),
            )
            if not there
        ]
        raise Unsupported(
            f"The task {task} runs programs that the model writes, and this system lacks {', '.join(lacking)}.",
            remedy="Run it on Linux; or run them unprotected with --allow-code-execution, best in a container.",
        )


def _score(exam: Exam, answers: Sequence[Answer], progress: Progress) -> list[dict[str, float]]:
    pairs = list(zip(exam.questions, answers, strict=True))
    return [exam.benchmark.score(*pair) for pair in track(pairs, f"scoring {exam.task}", progress, unit="answers")]


@contextmanager
def _telling_fields(benchmark: Benchmark) -> Iterator[None]:
    """Add to the error of a row what rows need."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(error.message, remedy=error.remedy or f"Each row needs {benchmark.expects}.") from None


def _examples(benchmark: Benchmark, questions: Sequence[Question], pool: Sequence[Question], shots: int) -> list[str]:
    """Return the text before each question: its introduction and worked examples."""
    generator, before = random.Random(SEED), []
    for question in questions:
        chosen: Sequence[Question] = []
        if shots and benchmark.draws == "first":
            chosen = [each for each in pool if each.group == question.group][:shots]
        elif shots:
            chosen = generator.sample(pool, shots) if len(pool) >= shots else []
        if len(chosen) < shots:
            of = f" of {question.group}" if question.group else ""
            raise InvalidInput(
                f"The file of worked examples has fewer than {shots}{of}.", remedy="Add rows, or lower --few-shot."
            )
        before.append(question.introduction + "".join(f"{each.worked}\n\n" for each in chosen))
    return before


def _alike(exam: Exam, numbers: Sequence[int]) -> dict[str, list[int]]:
    """Gather the questions behind each text, so that it is read once."""
    found: dict[str, list[int]] = {}
    for number in numbers:
        found.setdefault(exam.before[number], []).append(number)
    return found


def _figure(values: Sequence[float]) -> Figure:
    return Figure(math.fsum(values) / len(values), standard_error(numpy.array(values, numpy.float64)))


def _answer(kept: dict[str, Any]) -> Answer:
    return Answer(tuple(kept["likelihoods"]), tuple(kept["greedy"]), kept["text"])


def question_keys(exam: Exam) -> list[str]:
    """Return what the answer to each question is kept under: the same for the same question, asked in the same way."""
    return [_key(exam, number) for number in range(len(exam.questions))]


def _key(exam: Exam, number: int) -> str:
    question, benchmark = exam.questions[number], exam.benchmark
    asked = [exam.before[number], question.prompts, question.endings, benchmark.writes, benchmark.stops]
    asked += ["message"] if question.message else []
    asked += [_digest(image) for image in question.images]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@cache
def _digest(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()
