"""What a task's own model is worth on rows that its training has not seen."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.data.remembering import Notebook
from smidgen.progress import Event, Progress
from smidgen.recipe.lessons import Lesson
from smidgen.tasks.labels import LabelTask
from smidgen.tasks.task import Task

if TYPE_CHECKING:
    from smidgen.tasks.calibration import Calibration
    from smidgen.tasks.opened_model import OpenedModel

_TOGETHER = 16


def figures_of(
    task: Task, held: Sequence[Lesson], model: OpenedModel, folder: Path, progress: Progress
) -> tuple[dict[str, Any], Calibration | None]:
    """Measure a model on rows with right answers; what was asked before is not asked again.

    Args:
        task: What the model is asked.
        held: The rows.
        model: The model.
        folder: Where its answers are kept.
        progress: Receives reports.

    Returns:
        The figures (see `smidgen.evaluate.labelled.label_figures`) with ``rows`` and ``texts_per_second``, and how
        confidence was fitted to all rows, None where there are no labels.
    """
    asked = _Asked(task, model, folder)
    for begin in range(0, len(held), _TOGETHER):
        progress(Event("measuring", begin, len(held), "rows"))
        asked.about(held[begin : begin + _TOGETHER])
    progress(Event("measuring", len(held), len(held), "rows"))
    rows, speed = asked.rows, {"rows": len(held), "texts_per_second": len(held) / asked.seconds}
    if not isinstance(task, LabelTask):
        characters = sum(len(lesson.answer) for lesson in held)
        return {"nats_per_character": -sum(row[0] for row in rows) / characters, **speed}, None
    from smidgen.evaluate.labelled import label_figures

    right = [task.labels.index(lesson.answer) for lesson in held]
    figures, calibration = label_figures(rows, right, task.labels)
    return figures | speed, calibration


class _Asked:
    """Asks a model how likely answers are, and remembers it for the next time.

    Attributes:
        rows: ln p of the labels of each row so far, or of its one right answer.
        seconds: How long that took, of all runs together.
    """

    def __init__(self, task: Task, model: OpenedModel, folder: Path) -> None:
        self.task, self.model = task, model
        sha256 = "" if model.local is None else str(model.local.sha256)
        asked = [sha256, str(model.context), *(f"{turn.role}: {turn.content}" for turn in task.turns(""))]
        asked += task.labels if isinstance(task, LabelTask) else ()
        self.notes = Notebook(folder / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]}.jsonl")
        self.rows: list[list[float]] = []
        self.seconds = 0.0

    def about(self, part: Sequence[Lesson]) -> None:
        """Ask about some rows."""
        key = hashlib.sha256(json.dumps([[one.text, one.answer] for one in part]).encode()).hexdigest()
        if key not in self.notes.known:
            began = time.perf_counter()
            values = self._likelihoods(part)
            self.notes.keep(key, [time.perf_counter() - began, values])
        seconds, values = self.notes.known[key]
        self.seconds, self.rows = self.seconds + seconds, self.rows + values

    def _likelihoods(self, part: Sequence[Lesson]) -> list[list[float]]:
        if isinstance(self.task, LabelTask):
            texts = [self.task.fitting(one.text, self.model) for one in part]
            return self.task.likelihoods(texts, self.model)
        empty = self.task.turns("")
        return [self.model.likelihoods([self.task.turns(one.text)], [one.answer], empty=empty)[0] for one in part]
