"""Making a task's own model from the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from smidgen.cli.options import Settings
    from smidgen.cli.screen import Screen
    from smidgen.recipe.specialise import Specialised
    from smidgen.tasks.task import Task


@dataclass(frozen=True)
class Wishes:
    """How a task's model is made; see `smidgen.recipe.specialise.Training`.

    Attributes:
        train: Rows to train on.
        calibrate: Rows to fit the confidence to, without training.
        name: Name of the model.
        fit: Largest size of its file.
        within: Time for cutting and healing.
        epochs: Times the rows are read.
        learning_rate: Its peak.
        method: How it is trained.
        batch_size: Packed rows per step.
        upper: Share of the blocks, from the last, that is trained.
        train_rows: Rows to train on at most.
        held_out: Share of the rows that is measured on.
    """

    train: str | None = None
    calibrate: str | None = None
    name: str | None = None
    fit: str | None = None
    within: str | None = None
    epochs: float = 2.0
    learning_rate: float = 1e-3
    method: str = "lora"
    batch_size: int = 4
    upper: float = 0.5
    train_rows: int | None = None
    held_out: float = 0.2

    @property
    def data(self) -> str | None:
        """The rows, where anything is to be made."""
        return self.train or self.calibrate

    def checked(self, task: Task) -> Wishes:
        """Refuse what does not go together.

        Raises:
            InvalidInput: It does not.
        """
        from smidgen.tasks.labels import LabelTask

        if self.train and self.calibrate:
            raise InvalidInput("--train fits the confidence too.", remedy="Leave out --calibrate.")
        if self.calibrate and not isinstance(task, LabelTask):
            raise InvalidInput("This task gives no labels whose confidence could be fitted.", remedy="Take --train.")
        if self.fit is not None and self.train is None:
            raise InvalidInput("--fit says how large the trained model may be.", remedy="Give rows with --train.")
        if self.data is None and self.name is not None:
            raise InvalidInput("--name names a model that is made.", remedy="Give rows with --train or --calibrate.")
        return self


def make(name: str, task: Task, wishes: Wishes, model: str | None, settings: Settings, screen: Screen) -> None:
    """Make a task's own model, and show what it is worth."""
    from smidgen.cli._step import require_cpu
    from smidgen.recipe.budget import Budget
    from smidgen.recipe.specialise import Training, specialise
    from smidgen.tasks.profile import DEFAULT_MODEL

    require_cpu(settings)
    if wishes.fit is not None:
        Budget.parse(wishes.fit, within=wishes.within)
    training = Training(
        model=model or DEFAULT_MODEL,
        fit=wishes.fit,
        within=wishes.within,
        epochs=wishes.epochs,
        learning_rate=wishes.learning_rate,
        method=wishes.method,
        batch_size=wishes.batch_size,
        upper=wishes.upper,
        rows=wishes.train_rows,
        train=wishes.train is not None,
        held_out=wishes.held_out,
        seed=settings.seed,
        threads=settings.threads,
        offline=settings.offline,
    )
    chosen = wishes.name or default_name(name, wishes.data or "")
    with screen.progress() as progress:
        made = specialise(name, task, wishes.data or "", name=chosen, training=training, progress=progress)
    screen.result(made.to_dict(), lambda: _show(name, made, screen))


def default_name(task: str, data: str) -> str:
    """Name a model after the task and its rows.

    Example:
        >>> default_name("sentiment", "data/My reviews.csv")
        'sentiment-my-reviews'
    """
    stem = re.sub(r"[^a-z0-9.]+", "-", Path(data).stem.lower()).strip("-.")
    return f"{task}-{stem or 'own'}"


def _show(name: str, made: Specialised, screen: Screen) -> None:
    rows = [("model", made.name), *figure_rows(made.figures)]
    screen.table((name, "on rows that training has not seen"), rows)
    if made.folder is not None:
        screen.text(f"Weights, lessons and report: {made.folder}")
    screen.text(f"Use it: smidgen task {name} 'A text'")


def figure_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lay out what was measured of a task's own model for a person."""
    from smidgen.recipe.quantities import format_duration, format_size

    rows = [("size", format_size(figures["bytes"]))] if "bytes" in figures else []
    rows.append(("rows measured on", f"{figures['rows']:,}"))
    if "accuracy" in figures:
        ways = [("accuracy", "macro F1", figures)]
        ways += [("accuracy with --even", "macro F1 with --even", figures["even"])] if "even" in figures else []
        always: Mapping[str, Any] = figures["majority"]
        for accuracy, mean_f1, way in ways:
            rows += [
                (accuracy, f"{way['accuracy']:.2%} (the commonest label: {always['accuracy']:.2%})"),
                (mean_f1, f"{way['macro_f1']:.3f} (the commonest label: {always['macro_f1']:.3f})"),
            ]
        error = figures["calibration_error"]
        rows += [] if error is None else [("calibration error", f"{error:.3f}")]
    else:
        rows.append(("right answers", f"{figures['nats_per_character']:.3f} nats per character"))
    rows.append(("texts per second", f"{figures['texts_per_second']:.1f}"))
    if figures.get("rows_trained_on"):
        rows.append(("trained on", f"{figures['rows_trained_on']:,} rows"))
        rows.append(("processor time", format_duration(figures["seconds"])))
    return rows
