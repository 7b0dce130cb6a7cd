"""What commands that score tasks share: their options, the questions, and how ``smidgen measure`` shows scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli.options import Group
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from smidgen.cli.options import Settings
    from smidgen.cli.screen import Screen
    from smidgen.evaluate.respondents import Engine
    from smidgen.evaluate.tasks import Exam, TaskScore

PANEL = "Tasks"

_LABELS_SHOWN = 10
"""Labels up to which a confusion matrix is shown whole."""


@dataclass(frozen=True)
class Asked:
    """What the options ask for.

    Attributes:
        tasks: Names of benchmarks.
        files: One for each.
        examples: One for each, or none.
        limit: Rows of each.
        shots: Worked examples before each question.
        images: Folder of the images that rows name; that of the rows where None.
        allow_code_execution: Whether generated programs may run where nothing holds them.
    """

    tasks: tuple[str, ...]
    files: tuple[str, ...]
    examples: tuple[str, ...] = ()
    limit: int | None = None
    shots: int | None = None
    images: str | None = None
    allow_code_execution: bool = False

    @property
    def any(self) -> bool:
        """Whether a task is asked for at all."""
        return bool(self.tasks or self.files)


def asked(
    task: Annotated[
        list[str] | None,
        typer.Option("--task", "--tasks", metavar="NAME", help="Score a task; may be repeated.", rich_help_panel=PANEL),
    ] = None,
    task_file: Annotated[
        list[str] | None,
        typer.Option(
            "--task-file",
            metavar="FILE",
            help="Its labelled rows, JSONL, JSON or CSV; one for each --task.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="The first N rows of each task.", rich_help_panel=PANEL),
    ] = None,
    few_shot: Annotated[
        int | None,
        typer.Option(
            "--few-shot",
            metavar="K",
            help="Worked examples before each question.",
            show_default="the task's",
            rich_help_panel=PANEL,
        ),
    ] = None,
    few_shot_file: Annotated[
        list[str] | None,
        typer.Option(
            "--few-shot-file",
            metavar="FILE",
            help="Rows of worked examples; one for each --task.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="FOLDER",
            help="Where the images lie that rows name.",
            show_default="the rows' folder",
            rich_help_panel=PANEL,
        ),
    ] = None,
    allow_code_execution: Annotated[
        bool,
        typer.Option(
            "--allow-code-execution",
            help="Run what a model programs also where nothing keeps it from harm.",
            rich_help_panel=PANEL,
        ),
    ] = False,
) -> Asked:
    """Gather the options of tasks."""
    rows, shown = tuple(task_file or ()), tuple(few_shot_file or ())
    return Asked(tuple(task or ()), rows, shown, limit, few_shot, images, allow_code_execution)


Options = Annotated[Asked, Group(asked)]


def show(
    models: Sequence[str], against: str | None, asked: Asked, engine: Engine, settings: Settings, screen: Screen
) -> None:
    """Score models on tasks and show the scores."""
    from smidgen.evaluate.respondents import measure_tasks

    exams = read_exams(asked)
    names = list(dict.fromkeys([*([against] if against else []), *models]))
    with screen.progress() as progress:
        found = {
            name: measure_tasks(
                name, exams, engine=engine, threads=settings.threads, offline=settings.offline, progress=progress
            )
            for name in names
        }
    source = found[against] if against else None
    rows = [
        _plain(score, source[place] if source else None) for name in names for place, score in enumerate(found[name])
    ]
    screen.result({"against": against, "tasks": rows}, lambda: _print(screen, rows))


def read_exams(asked: Asked) -> list[Exam]:
    """Read the questions of all tasks.

    Raises:
        ReferenceNotFound: There is no such task or file; the message says what file to give.
        InvalidInput: Tasks and files do not match, or a row is malformed.
    """
    from smidgen.evaluate import benchmarks
    from smidgen.evaluate.tasks import read_exam

    if len(asked.files) != len(asked.tasks):
        takes = "; ".join(f"{name} takes {benchmarks.find(name).source}" for name in asked.tasks)
        raise InvalidInput(
            f"{len(asked.tasks)} tasks and {len(asked.files)} files of rows were given.",
            remedy=f"Give one --task-file for each --task: {takes or ', '.join(benchmarks.names())}.",
        )
    if asked.examples and len(asked.examples) != len(asked.tasks):
        raise InvalidInput(
            f"{len(asked.tasks)} tasks and {len(asked.examples)} files of worked examples were given.",
            remedy="Give one --few-shot-file for each --task, or none.",
        )
    examples = asked.examples or (None,) * len(asked.tasks)
    return [
        read_exam(
            task,
            file,
            examples=each,
            limit=asked.limit,
            shots=asked.shots,
            allow_code_execution=asked.allow_code_execution,
            images=asked.images,
        )
        for task, file, each in zip(asked.tasks, asked.files, examples, strict=True)
    ]


def _plain(score: TaskScore, source: TaskScore | None) -> dict[str, Any]:
    compared = None if source is None or source.model == score.model else score.against(source).to_dict()
    return score.to_dict() | {"difference": compared}


def _print(screen: Screen, rows: Sequence[dict[str, Any]]) -> None:
    lines = []
    for row in rows:
        figures = "  ".join(
            f"{name} {each['value']:.4f} ± {each['standard_error']:.4f}" for name, each in row["figures"].items()
        )
        # What is told of all answers together has no standard error.
        whole = [f"{name} {each:.4f}" for name, each in row["details"].items() if isinstance(each, float)]
        scores = "  ".join([figures, *whole])
        lines.append((row["model"], row["task"], f"{row['items']:,}", str(row["shots"]), scores, _difference(row)))
    columns = ("model", "task", "questions", "examples", "scores", "against the source")
    shown = len(columns) if any(line[-1] for line in lines) else -1
    screen.table(columns[:shown], [line[:shown] for line in lines])
    for row in rows:
        if "types" in row["details"]:
            _print_types(screen, row)
        if "confusion" in row["details"]:
            _print_confusion(screen, row)
        if row["details"].get("failures"):
            reasons = ", ".join(f"{count} {reason}" for reason, count in row["details"]["failures"].items())
            screen.text(f"{row['model']}, {row['task']}: programs that failed: {reasons}.")
        if row["cut"]:
            screen.warn(f"{row['model']}, {row['task']}: {row['cut']} prompts were too long and lost their beginning.")


def _print_confusion(screen: Screen, row: dict[str, Any]) -> None:
    """Show how often which label was answered where which was right; of many labels only what went wrong most."""
    labels, counts = row["details"]["labels"], row["details"]["confusion"]
    subject = f"{row['model']}, {row['task']}"
    if len(labels) <= _LABELS_SHOWN:
        lines = [(label, *(f"{count:,}" for count in each)) for label, each in zip(labels, counts, strict=True)]
        screen.text(f"{subject}, what was answered where a label was right:")
        screen.table(("right", *(f"said {label}" for label in labels)), lines)
        return
    wrong = [
        (count, right, said)
        for right, each in zip(labels, counts, strict=True)
        for said, count in zip(labels, each, strict=True)
        if count and said != right
    ]
    most = sorted(wrong, key=lambda each: -each[0])[:_LABELS_SHOWN]
    lines = [(right, said, f"{count:,}") for count, right, said in most]
    screen.text(f"{subject}, what was mistaken most:")
    screen.table(("right", "said", "questions"), lines)


def _print_types(screen: Screen, row: dict[str, Any]) -> None:
    """Show what was reached of each type of question."""
    types: dict[str, dict[str, int]] = row["details"]["types"]
    figures = [name for name in next(iter(types.values())) if name != "items"]
    lines = [(kind, *(f"{found[name]:,}" for name in ("items", *figures))) for kind, found in types.items()]
    screen.table(("type", "questions", *figures), lines, title=f"{row['model']}, {row['task']}")


def _difference(row: dict[str, Any]) -> str:
    found = row["difference"]
    if found is None:
        return ""
    interval = f"{found['low']:+.3f} to {found['high']:+.3f}"
    return f"{row['main']} {found['value']:+.3f} ({interval}), p = {found['p_value']:.3f}"
