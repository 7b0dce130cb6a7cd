"""A task's own model: trained on a person's rows, made to fit, measured on rows it has not seen, kept under a name."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.data.records import Record, read_records
from smidgen.data.rows import Corpus, Message, Row
from smidgen.errors import InvalidInput
from smidgen.models.files import atomic_write, make_folder
from smidgen.progress import Event, Progress, silent
from smidgen.recipe.materials import WATCHED_SHARE
from smidgen.tasks import profile
from smidgen.tasks.labels import LabelTask
from smidgen.tasks.opened_model import OpenedModel
from smidgen.tasks.task import Task

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.models.store import Store
    from smidgen.tasks.calibration import Calibration

FEWEST = 20
"""Rows from which a task can be specialised."""

_FOLDER = "tasks"
_LENGTH = 256
_TOGETHER = 16
_MOST_WATCHED = 64
_STORED = "q8_0"
"""Number format of the trained model where no size is asked for."""


@dataclass(frozen=True)
class Lesson:
    """One row of a person's data.

    Attributes:
        text: What the task is given.
        answer: What is right.
    """

    text: str
    answer: str


@dataclass(frozen=True)
class Training:
    """How a task's model is made.

    Attributes:
        model: What it is made of.
        fit: Largest size of the file, "60MB"; without it the trained model is stored in 8 bits.
        within: Time for cutting and healing, "10m".
        epochs: Times the rows are read.
        learning_rate: Its peak.
        rows: Train on so many rows at most, as even over the labels as they allow.
        train: Whether anything is trained; without it only the confidence is fitted.
        held_out: Share of the rows that is measured on.
        seed: Of everything random.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
    """

    model: str = profile.DEFAULT_MODEL
    fit: str | None = None
    within: str | None = None
    epochs: float = 1.0
    learning_rate: float = 1e-4
    rows: int | None = None
    train: bool = True
    held_out: float = 0.2
    seed: int = 0
    threads: int | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise InvalidInput(f"A held-out share of {self.held_out} leaves nothing to train or to measure on.")
        if self.rows is not None and self.rows < FEWEST:
            raise InvalidInput(f"{self.rows} rows are too few to train on.", remedy=f"Give at least {FEWEST}.")


@dataclass(frozen=True)
class Specialised:
    """What was made.

    Attributes:
        name: The model's name in the store.
        task: The task with the options that the model was made for.
        figures: What was measured on rows that training has not seen.
        bytes: Size of the model's file.
        seconds: Processor seconds of training and making; 0 where nothing was trained.
        folder: Where the trained weights, what they were trained on and the report lie; None where nothing was trained.
    """

    name: str
    task: Task
    figures: dict[str, Any]
    bytes: int
    seconds: float
    folder: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        facts = {name: getattr(self, name) for name in ("name", "figures", "bytes", "seconds")}
        folder = None if self.folder is None else str(self.folder)
        return facts | {"folder": folder, "options": profile.options_of(self.task)}


def specialise(
    task_name: str,
    task: Task,
    data: str | Path,
    *,
    name: str,
    training: Training | None = None,
    progress: Progress = silent,
) -> Specialised:
    """Make a task's own model out of rows with right answers, and let the task take it from now on.

    The model is fine-tuned on what the task asks, then made to fit (`smidgen.recipe.make.make`), and stored. Of the
    rows a share is held out, alike over the labels, and no text stands on both sides; on it confidence is fitted and
    everything measured, each half by what the other half was fitted to. A stopped run goes on where it was.

    Args:
        task_name: The task's name.
        task: The task; where labels are not said, those of the rows are taken.
        data: CSV or JSONL with ``text`` and the answer: ``label``, or ``output`` where text is written.
        name: Name of the model in the store; what had it is replaced.
        training: How it is made.
        progress: Receives reports.

    Raises:
        InvalidInput: The rows are too few or lack a field, or labels do not fit.
        BudgetNotMet: No way of cutting and storing reaches the size.

    Example:
        found = specialise("sentiment", Sentiment(), "reviews.csv", name="reviews", training=Training(fit="60MB"))
        print(found.figures["macro_f1"])
    """
    from smidgen.models.store import Store

    how, store = training or Training(), Store()
    lessons = read_lessons(task, read_records(data))
    task = _with_labels(task, lessons)
    taught, held = divided(lessons, how)
    began, folder = time.process_time(), None
    if how.train:
        file = _trained(task_name, task, taught, how, store, progress)
        folder = file.parent
        _take_in(file, name, store, progress)
    else:
        _copy(how, name, store, progress)
    seconds = time.process_time() - began if how.train else 0.0
    figures, calibration = _measured(task, held, name, how, progress)
    stored = profile.keep(profile.Profile(task_name, profile.options_of(task), calibration, figures), name, store)
    if isinstance(task, LabelTask):
        task = replace(task, calibration=calibration)
    size = sum(path.stat().st_size for path in stored.paths.values() if path.suffix == ".gguf")
    return Specialised(stored.name, task, figures, size, seconds, folder)


def read_lessons(task: Task, records: Sequence[Record]) -> list[Lesson]:
    """Read what a task is given and what is right from rows; a text counts once.

    Raises:
        InvalidInput: A row lacks a field, or there are too few rows.
    """
    found: dict[str, str] = {}
    for record in records:
        found.setdefault(record.text("text").strip(), record.text(*task.taught_by).strip())
    if len(found) < FEWEST:
        raise InvalidInput(f"{len(found)} different rows are too few.", remedy=f"Give at least {FEWEST}.")
    return [Lesson(text, answer) for text, answer in found.items()]


def _with_labels(task: Task, lessons: Sequence[Lesson]) -> Task:
    if not isinstance(task, LabelTask):
        return task
    found = {lesson.answer for lesson in lessons}
    if len(found) < 2:
        raise InvalidInput(f"All rows have the label {next(iter(found))!r}.", remedy="Give rows with other labels too.")
    if not found <= set(task.labels):
        said = [label for label in task.labels if label in found]
        task = replace(task, labels=(*said, *sorted(found - set(said))))
    return task


def divided(lessons: Sequence[Lesson], how: Training) -> tuple[list[Lesson], list[Lesson]]:
    """Divide lessons into those trained on and those held out, each label by its share.

    Example:
        >>> rows = [Lesson(str(number), "ab"[number % 2]) for number in range(20)]
        >>> taught, held = divided(rows, Training(held_out=0.2))
        >>> len(taught), sorted(lesson.answer for lesson in held)
        (16, ['a', 'a', 'b', 'b'])
    """
    mixed = list(lessons)
    random.Random(how.seed).shuffle(mixed)
    groups: dict[str, list[Lesson]] = defaultdict(list)
    kinds = Counter(lesson.answer for lesson in mixed)
    few = len(kinds) * 2 <= len(mixed)  # answers that repeat are labels; written ones seldom do
    for lesson in mixed:
        groups[lesson.answer if few else ""].append(lesson)
    held = [lesson for group in groups.values() for lesson in group[: round(how.held_out * len(group))]]
    taught = [group[round(how.held_out * len(group)) :] for group in groups.values()]
    chosen = _evenly(taught, how.rows)
    random.Random(how.seed + 1).shuffle(chosen)
    random.Random(how.seed + 2).shuffle(held)
    if not chosen or not held:
        raise InvalidInput("There are too few rows to hold some out.", remedy="Give more rows.")
    return chosen, held


def _evenly(groups: Sequence[list[Lesson]], most: int | None) -> list[Lesson]:
    """Take so many in all at most, the smallest groups whole."""
    room = sum(map(len, groups)) if most is None else most
    taken: list[Lesson] = []
    for place, group in enumerate(sorted(groups, key=len)):
        part = group[: room // (len(groups) - place)]
        taken, room = [*taken, *part], room - len(part)
    return taken


def _trained(
    task_name: str, task: Task, taught: Sequence[Lesson], how: Training, store: Store, progress: Progress
) -> Path:
    """Fine-tune and make the model; returns its file."""
    from smidgen.export import gguf
    from smidgen.machine import cores
    from smidgen.models.load import load
    from smidgen.recipe.make import make

    rows = [_row(task, lesson) for lesson in taught]
    content = "".join(json.dumps(row.to_dict()) + "\n" for row in rows)
    identity = [task_name, content, asdict(replace(how, fit=None, within=None, offline=False))]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    folder = make_folder(store.root / _FOLDER / digest[:16])
    atomic_write(folder / "lessons.jsonl", content)
    threads, tuned = how.threads or cores()[0], folder / "tuned"
    if not (tuned / "config.json").is_file():
        _tune(rows, replace(how, threads=threads), folder, progress)
    if how.fit is None:
        model = load(str(tuned), offline=True, progress=progress)
        gguf.write(model, folder / "model.gguf", float_format=_STORED, progress=progress)
        shutil.copyfile(tuned / "README.md", folder / "README.md")
        return folder / "model.gguf"
    limits: dict[str, Any] = {"fit": how.fit, "within": how.within, "seed": how.seed, "threads": threads}
    out = folder / f"made-{re.sub(r'[^0-9A-Za-z.]+', '', how.fit)}"
    outcome = make(str(tuned), data=str(folder / "lessons.jsonl"), out=out, progress=progress, **limits)
    return outcome.folder / "model.gguf"


def _tune(rows: Sequence[Row], how: Training, folder: Path, progress: Progress) -> None:
    """Fine-tune, a few of the rows kept aside to watch overfitting with, and write the model into the folder."""
    import torch

    from smidgen.export import safetensors
    from smidgen.models.load import load
    from smidgen.recipe.recipe import Step

    torch.set_num_threads(how.threads or 1)
    source = load(how.model, offline=how.offline, progress=progress)
    length = min(_LENGTH, source.anatomy.context_length)
    options = {"epochs": how.epochs, "learning_rate": how.learning_rate, "length": length, "seed": how.seed}
    watched = max(1, min(_MOST_WATCHED, round(len(rows) * WATCHED_SHARE)))
    training, apart = Corpus("lessons", tuple(rows[watched:])), Corpus("lessons kept aside", tuple(rows[:watched]))
    checkpoints = folder / "checkpoints"
    operation = Step("finetune", options).build()
    result = operation.run(source, training, apart, checkpoints=checkpoints, progress=progress)
    safetensors.write(result.model, folder / "tuned", dtype="float16")
    _write_card(result.model, folder / "tuned")
    shutil.rmtree(checkpoints, ignore_errors=True)


def _row(task: Task, lesson: Lesson) -> Row:
    """Return a lesson as what the model is asked and what it is to answer."""
    turns = [Message(turn.role, turn.content) for turn in task.turns(lesson.text)]
    label = lesson.answer if isinstance(task, LabelTask) else None
    return Row(messages=(*turns, Message("assistant", lesson.answer)), label=label)


def _write_card(model: Model, folder: Path) -> None:
    """Say beside a trained model what it was made of, so that licence and origin travel with it."""
    origin = model.lineage.origin
    lines = ["---", "tags: [smidgen]", *([f"license: {origin.licence}"] if origin.licence else [])]
    lines += [f"base_model: {origin.base_model or origin.name}", "---", "", "Trained for one task with smidgen.", ""]
    atomic_write(folder / "README.md", "\n".join(lines))


def _take_in(file: Path, name: str, store: Store, progress: Progress) -> None:
    from smidgen.models import sources

    sources.pull(str(file), store, name=name, offline=True, progress=progress)


def _copy(how: Training, name: str, store: Store, progress: Progress) -> None:
    """Give the source a second name, which the profile is kept under; its bytes are shared."""
    from smidgen.models import sources
    from smidgen.models.names import StoreName

    stored = sources.pull(how.model, store, offline=how.offline, progress=progress)
    if str(StoreName.parse(name)) != stored.name:
        store.copy(stored.name, name)


def _measured(
    task: Task, held: Sequence[Lesson], name: str, how: Training, progress: Progress
) -> tuple[dict[str, Any], Calibration | None]:
    """Return what the finished model does on rows that training has not seen."""
    with OpenedModel(name, threads=how.threads, offline=how.offline) as model:
        rows: list[list[float]] = []
        began = time.perf_counter()
        for begin in range(0, len(held), _TOGETHER):
            part = held[begin : begin + _TOGETHER]
            progress(Event("measuring", begin, len(held), "rows"))
            if isinstance(task, LabelTask):
                rows += task.likelihoods([lesson.text for lesson in part], model)
            else:
                empty = task.turns("")
                rows += [model.likelihoods([task.turns(one.text)], [one.answer], empty=empty)[0] for one in part]
        progress(Event("measuring", len(held), len(held), "rows"))
        seconds = time.perf_counter() - began
    speed = {"rows": len(held), "texts_per_second": len(held) / seconds}
    if not isinstance(task, LabelTask):
        characters = sum(len(lesson.answer) for lesson in held)
        return {"nats_per_character": -sum(row[0] for row in rows) / characters, **speed}, None
    from smidgen.evaluate.labelled import label_figures

    right = [task.labels.index(lesson.answer) for lesson in held]
    figures, calibration = label_figures(rows, right, task.labels)
    return figures | speed, calibration
