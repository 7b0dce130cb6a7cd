"""What a task knows of a model that was made for it: the options it was made with, and how its confidence was fitted.

A profile lies among the facts of the stored model, so that it goes wherever the model is copied to. Which model a task
takes where nobody names one stands in one small file of the store's folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.models.files import atomic_write, make_folder
from smidgen.models.store import Store, default_root
from smidgen.tasks.calibration import Calibration
from smidgen.tasks.task import Task, kind_of

if TYPE_CHECKING:
    from smidgen.models.store import StoredModel

DEFAULT_MODEL = "smollm2:135m"
"""The model of every task that was not specialised."""

FACT, CHOSEN = "task", "tasks.json"


@dataclass(frozen=True)
class Profile:
    """What a model was made for.

    Attributes:
        task: The task's name.
        options: The task's options at that time.
        calibration: How confidence was fitted; None where the task has no labels.
        figures: What was measured on rows that training has not seen.
    """

    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        fitted = None if self.calibration is None else self.calibration.to_dict()
        return {"task": self.task, "options": dict(self.options), "calibration": fitted, "figures": dict(self.figures)}


def of(facts: Mapping[str, Any]) -> Profile | None:
    """Read a profile from a stored model's facts; None where the model was made for no task."""
    kept = facts.get(FACT)
    if not isinstance(kept, Mapping):
        return None
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in kept["options"].items()}
    fitted = kept.get("calibration")
    calibration = Calibration.from_dict(fitted) if fitted else None
    return Profile(str(kept["task"]), options, calibration, kept.get("figures") or {})


def keep(profile: Profile, name: str, store: Store | None = None) -> StoredModel:
    """Write a profile into a stored model's facts, and let its task take that model from now on."""
    store = store or Store()
    stored = store.resolve(name)
    described = store.describe(stored.name, {**stored.facts, FACT: profile.to_dict()})
    path = make_folder(store.root) / CHOSEN
    atomic_write(path, json.dumps({**_chosen(store.root), profile.task: stored.name}, indent=1, sort_keys=True) + "\n")
    return described


def default_model(name: str, task: Task) -> str:
    """Return the model that a task takes where nobody names one.

    The specialised one serves as long as it is there and was made with the options that are asked for.
    """
    chosen = _chosen(default_root()).get(name)
    store = Store()
    if chosen is None or chosen not in store.names():
        return DEFAULT_MODEL
    found = of(store.resolve(chosen).facts)
    return chosen if found is not None and _agrees(found, task) else DEFAULT_MODEL


def applied(name: str, task: Task, facts: Mapping[str, Any]) -> Task:
    """Return a task with the options and the calibration of a model that was made for it; what was said stays.

    Args:
        name: The task's name.
        task: The task as a person asked for it.
        facts: What the store knows of the model.
    """
    found = of(facts)
    if found is None or found.task != name or not _agrees(found, task):
        return task
    taken = {each: value for each, value in found.options.items() if each in task.defines or not _is_said(task, each)}
    more = {"calibration": found.calibration} if hasattr(task, "calibration") else {}
    return dataclasses.replace(task, **taken, **more)


def options_of(task: Task) -> dict[str, Any]:
    """Return the options of a task that differ from their defaults, as a profile keeps them."""
    return {
        each.name: getattr(task, each.name)
        for each in dataclasses.fields(task)
        if kind_of(each) and _is_said(task, each.name)
    }


def _agrees(found: Profile, task: Task) -> bool:
    """Whether nothing was asked for that the model was made for in another way."""
    said = {name: getattr(task, name) for name in task.defines if _is_said(task, name)}
    return all(_plain(value) == _plain(found.options.get(name, value)) for name, value in said.items())


def _plain(value: Any) -> Any:
    return frozenset(value) if isinstance(value, tuple) else value


def _is_said(task: Task, name: str) -> bool:
    kept = next(each for each in dataclasses.fields(task) if each.name == name)
    return bool(getattr(task, name) != kept.default)


def _chosen(root: Path) -> dict[str, str]:
    path = root / CHOSEN
    if not path.is_file():
        return {}
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return found
