"""A task's own model: trained on a person's rows, made to fit, measured on rows it has not seen, kept under a name."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.data.records import read_records
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput
from smidgen.models.files import atomic_write, make_folder
from smidgen.progress import Progress, silent
from smidgen.recipe.asking import figures_of
from smidgen.recipe.lessons import FEWEST, Lesson, read_lessons, row_of, with_labels
from smidgen.recipe.materials import WATCHED_SHARE
from smidgen.shrink.finetune.finetune import Finetune
from smidgen.tasks import profile
from smidgen.tasks.labels import LabelTask
from smidgen.tasks.opened_model import OpenedModel
from smidgen.tasks.task import Task

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.models.store import Store

_FOLDER = "tasks"
_LENGTH = 256
_MOST_WATCHED = 128
_STORED = "q8_0"
"""Number format of the trained model where no size is asked for."""


@dataclass(frozen=True)
class Training:
    """How a task's model is made.

    Attributes:
        model: What it is made of.
        fit: Largest size of the file, "60MB"; without it the trained model is stored in 8 bits.
        within: Time for cutting and healing, "10m".
        epochs: Times the rows are read; found by short trials where None.
        learning_rate: Its peak; found by short trials where None.
        method: ``lora``, ``dora`` and ``qlora`` train an adapter, which is worked in; ``full`` the weights themselves.
        batch_size: Packed rows of 256 tokens per step.
        upper: Share of the blocks, from the last, that is trained.
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
    epochs: float | None = 2.0
    learning_rate: float | None = 1e-3
    method: str = "lora"
    batch_size: int = 4
    upper: float = 0.5
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
        Finetune(**self.tuning())

    def tuning(self) -> dict[str, Any]:
        """Return the options of the fine-tuning."""
        names = ("epochs", "learning_rate", "method", "batch_size", "upper", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Specialised:
    """What was made.

    Attributes:
        name: The model's name in the store.
        task: The task with the options that the model was made for.
        figures: What was measured on rows that training has not seen.
        bytes: Size of the model's file.
        seconds: Processor seconds of training and making, all runs that it took; 0 where nothing was trained.
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
    everything measured, each fifth by what the others were fitted to. A stopped run goes on where it was.

    Args:
        task_name: The task's name.
        task: The task; where labels are not said, those of the rows are taken.
        data: CSV or JSONL with ``text`` and the answer: ``label``, or ``output`` where text is written.
        name: Name of the model in the store; what had it is replaced.
        training: How it is made.
        progress: Receives reports.

    Raises:
        InvalidInput: The rows are too few or lack a field, or labels do not fit.
        Unsupported: A size is asked for of a model that sees, and llama.cpp cannot hold what it sees with.
        BudgetNotMet: No way of cutting and storing reaches the size.

    Example:
        found = specialise("sentiment", Sentiment(), "reviews.csv", name="reviews", training=Training(fit="60MB"))
        print(found.figures["macro_f1"])
    """
    from smidgen.models.store import Store

    how, store = training or Training(), Store()
    lessons = read_lessons(task, read_records(data))
    task = with_labels(task, lessons)
    taught, held = divided(lessons, how)
    folder, seconds = None, 0.0
    if how.train:
        file, seconds = _trained(task_name, task, taught, how, store, progress)
        folder = file.parent
        _take_in(file, name, store, progress)
    else:
        _copy(how, name, store, progress)
    stored = store.resolve(name)
    size = sum(path.stat().st_size for path in stored.paths.values() if path.suffix == ".gguf")
    with OpenedModel(name, threads=how.threads, offline=how.offline) as model:
        figures, calibration = figures_of(task, held, model, store.root / _FOLDER / "scores", progress)
    figures |= {"rows_trained_on": len(taught) if how.train else 0, "seconds": round(seconds, 1), "bytes": size}
    profile.keep(profile.Profile(task_name, profile.options_of(task), calibration, figures), name, store)
    if isinstance(task, LabelTask):
        task = replace(task, calibration=calibration)
    return Specialised(stored.name, task, figures, size, seconds, folder)


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
) -> tuple[Path, float]:
    """Fine-tune and make the model; returns its file and the processor seconds that both took."""
    from smidgen.export import gguf
    from smidgen.machine import cores
    from smidgen.models.load import load
    from smidgen.recipe.make import make

    rows = [row_of(task, lesson) for lesson in taught]
    content = "".join(json.dumps(row.to_dict()) + "\n" for row in rows)
    identity = [task_name, content, asdict(replace(how, fit=None, within=None, offline=False))]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    folder = make_folder(store.root / _FOLDER / digest[:16])
    atomic_write(folder / "lessons.jsonl", content)
    threads, tuned = how.threads or cores()[0], folder / "tuned"
    with _spending(folder / "tuning.seconds") as tuning:
        if not (tuned / "config.json").is_file():
            _tune(rows, replace(how, threads=threads), folder, store, progress)
    if how.fit is None:
        model = load(str(tuned), offline=True, progress=progress)
        gguf.write(model, folder / "model.gguf", float_format=_STORED, progress=progress)
        shutil.copyfile(tuned / "README.md", folder / "README.md")
        return folder / "model.gguf", tuning()
    limits: dict[str, Any] = {"fit": how.fit, "within": how.within, "seed": how.seed, "threads": threads}
    out = folder / f"made-{re.sub(r'[^0-9A-Za-z.]+', '', how.fit)}"
    with _spending(out.with_suffix(f"{out.suffix}.seconds")) as making:
        outcome = make(str(tuned), data=str(folder / "lessons.jsonl"), out=out, progress=progress, **limits)
    return outcome.folder / "model.gguf", tuning() + making()


@contextmanager
def _spending(path: Path) -> Iterator[Callable[[], float]]:
    """Add the processor seconds of a piece of work, its children's included, to those of its earlier runs in a file."""

    def spent() -> float:
        return float(path.read_text(encoding="ascii")) if path.is_file() else 0.0

    began, before = _processor_seconds(), spent()
    try:
        yield spent
    finally:
        atomic_write(path, f"{before + _processor_seconds() - began:.3f}")


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _tune(rows: Sequence[Row], how: Training, folder: Path, store: Store, progress: Progress) -> None:
    """Fine-tune, a few of the rows kept aside to watch overfitting with, and write the model into the folder."""
    import torch

    from smidgen.export import safetensors
    from smidgen.models.load import load_local
    from smidgen.models.reference import parse
    from smidgen.models.sources import fetch
    from smidgen.recipe import seeing

    torch.set_num_threads(how.threads or 1)
    local = fetch(parse(how.model, store), store, offline=how.offline, progress=progress)
    if how.fit is not None:
        seeing.require_holdable(local)  # as `make` would refuse the trained model
    source = load_local(local, progress=progress)
    length = min(_LENGTH, source.anatomy.context_length)
    watched = max(1, min(_MOST_WATCHED, round(len(rows) * WATCHED_SHARE)))
    training, apart = Corpus("lessons", tuple(rows[watched:])), Corpus("lessons kept aside", tuple(rows[:watched]))
    checkpoints = folder / "checkpoints"
    result = Finetune(**how.tuning(), length=length).run(
        source, training, apart, checkpoints=checkpoints, progress=progress
    )
    safetensors.write(result.model, folder / "tuned", dtype="float16")
    _write_card(result.model, folder / "tuned")
    atomic_write(folder / "curves.json", json.dumps(result.curves, indent=1) + "\n")
    shutil.rmtree(checkpoints, ignore_errors=True)


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
