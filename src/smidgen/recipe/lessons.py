"""What a task is taught by: rows of a person's data with right answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from smidgen.data.records import Record
from smidgen.data.rows import Message, Row
from smidgen.errors import InvalidInput
from smidgen.tasks.labels import LabelTask
from smidgen.tasks.task import Task

FEWEST = 20
"""Rows from which a task can be specialised."""


@dataclass(frozen=True)
class Lesson:
    """One row of a person's data.

    Attributes:
        text: What the task is given.
        answer: What is right.
    """

    text: str
    answer: str


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


def with_labels(task: Task, lessons: Sequence[Lesson]) -> Task:
    """Return a task that knows the labels of its lessons.

    Raises:
        InvalidInput: All have the same label.
    """
    if not isinstance(task, LabelTask):
        return task
    found = {lesson.answer for lesson in lessons}
    if len(found) < 2:
        raise InvalidInput(f"All rows have the label {next(iter(found))!r}.", remedy="Give rows with other labels too.")
    if not found <= set(task.labels):
        said = [label for label in task.labels if label in found]
        task = replace(task, labels=(*said, *sorted(found - set(said))))
    return task


def row_of(task: Task, lesson: Lesson) -> Row:
    """Return a lesson as what the model is asked and what it is to answer."""
    turns = [Message(turn.role, turn.content) for turn in task.turns(lesson.text)]
    label = lesson.answer if isinstance(task, LabelTask) else None
    return Row(messages=(*turns, Message("assistant", lesson.answer)), label=label)
