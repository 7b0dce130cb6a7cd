"""Tasks over the rows of a file: progress, errors row by row, and nothing done twice after a stop."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.data.records import SUFFIXES, Record
from smidgen.errors import EngineFailed, InvalidInput, SmidgenError
from smidgen.progress import Event, Progress, silent
from smidgen.tasks.task import LanguageModel, Task, checked

if TYPE_CHECKING:
    from smidgen.data.remembering import Notebook

_TOGETHER = 16


@dataclass(frozen=True)
class Done:
    """What became of one row.

    Attributes:
        record: The row.
        result: The task's result; None where it failed.
        error: Why it failed; empty where it did not.
    """

    record: Record
    result: Mapping[str, Any] | None
    error: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row's own fields with the result, or the error."""
        return {**self.record.fields, **({"error": self.error} if self.error else {"result": self.result})}


def run(
    task: Task,
    records: Sequence[Record],
    model: LanguageModel,
    notebook: Notebook,
    *,
    field: str = "text",
    progress: Progress = silent,
) -> list[Done]:
    """Do a task for each row; what stands in the notebook is not done again.

    A row may bring options of its own under their names, of those that the task allows. A row that fails has its
    error, which is not kept, so that the next run tries it anew.

    Args:
        task: The task.
        records: The rows.
        model: The model.
        notebook: Keeps every result; it belongs to one model.
        field: Name of the field that holds the text.
        progress: Told after each group of rows.

    Raises:
        EngineFailed: The engine broke down; what was done is kept.
    """
    stage = f"{type(task).__name__.lower()} with {model.name}"
    done: list[Done] = []
    for group in _groups(task, records):
        progress(Event(stage, len(done), len(records), "rows"))
        done += _together(task, group, model, notebook, field)
    progress(Event(stage, len(done), len(records), "rows"))
    return done


def _groups(task: Task, records: Sequence[Record]) -> Iterator[list[Record]]:
    """Divide rows into those that are done together: neighbours without options of their own."""
    group: list[Record] = []
    for record in records:
        own = record.has(*task.row_fields)
        if group and (own or len(group) == _TOGETHER):
            yield group
            group = []
        group.append(record)
        if own:
            yield group
            group = []
    if group:
        yield group


def _together(task: Task, group: Sequence[Record], model: LanguageModel, notebook: Notebook, field: str) -> list[Done]:
    """Do some rows together; where one of them fails, each alone."""
    prepared = [_prepared(task, record, field) for record in group]
    open_ones = [each for each in prepared if not isinstance(each, str) and _key(*each) not in notebook.known]
    try:
        if open_ones:
            results = open_ones[0][0].many([text for _, text in open_ones], model)
            for each, result in zip(open_ones, results, strict=True):
                notebook.keep(_key(*each), result)
    except EngineFailed:
        raise
    except SmidgenError as error:
        if len(group) > 1:
            return [done for record in group for done in _together(task, [record], model, notebook, field)]
        return [Done(group[0], None, str(error))]
    return [
        Done(record, None, each) if isinstance(each, str) else Done(record, notebook.known[_key(*each)])
        for record, each in zip(group, prepared, strict=True)
    ]


def _prepared(task: Task, record: Record, field: str) -> tuple[Task, str] | str:
    """Return a row's task and text, or why it has none."""
    try:
        own = {name: record.fields[name] for name in task.row_fields if record.has(name)}
        if own:
            checked(type(task), own)
            task = dataclasses.replace(task, **own)
        return task, record.text(field.lower())
    except SmidgenError as error:
        return str(error)


def _key(task: Task, text: str) -> str:
    return hashlib.sha256(json.dumps([repr(task), text]).encode(errors="replace")).hexdigest()


def check_suffix(path: Path) -> None:
    """Refuse names of files that results are not written to.

    Raises:
        InvalidInput: It ends neither in .jsonl nor in .csv.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(
            f"Results are not written to {str(path)!r}.", remedy=f"End it in one of {' '.join(SUFFIXES)}."
        )


def as_lines(done: Sequence[Done]) -> str:
    """Return rows as JSON, one a line."""
    return "".join(json.dumps(each.row(), ensure_ascii=False) + "\n" for each in done)


def as_table(done: Sequence[Done]) -> str:
    r"""Return rows as CSV: their own columns, then one for each plain value of the results, then errors.

    Example:
        >>> as_table([Done(Record("", {"text": "hi"}), {"label": "ham", "scores": {"ham": 1.0}})])
        'text,label,scores,error\r\nhi,ham,"{""ham"": 1.0}",\r\n'
    """
    own = list(dict.fromkeys(name for each in done for name in each.record.fields))
    made = list(dict.fromkeys(name for each in done for name in each.result or ()))
    heads = [f"result_{name}" if name in own else name for name in made]
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow([*own, *heads, "error"])
    for each in done:
        cells = [each.record.fields.get(name, "") for name in own] + [
            (each.result or {}).get(name, "") for name in made
        ]
        writer.writerow([_cell(cell) for cell in cells] + [each.error])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value
