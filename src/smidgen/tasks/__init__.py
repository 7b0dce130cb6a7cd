"""Ready-made jobs: ``smidgen.tasks.sentiment("I like it.")``, one file each in ``tasks/jobs``, found by its name.

Every job is also ``smidgen task NAME`` on the command line and ``POST /v1/tasks/NAME`` of a server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from smidgen import registry
from smidgen.errors import ReferenceNotFound
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.tasks.task import LanguageModel, Task

JOBS = "smidgen.tasks.jobs"
"""The folder of the jobs, for `smidgen.registry`."""


def names() -> tuple[str, ...]:
    """List the tasks.

    Example:
        >>> names()[:4]
        ('answer', 'chat', 'classify', 'code')
    """
    return registry.names(JOBS)


def find(name: str) -> type[Task]:
    """Return a task's class.

    Raises:
        ReferenceNotFound: There is no such task.
    """
    try:
        return cast("type[Task]", registry.find(JOBS, name))
    except ReferenceNotFound:
        raise ReferenceNotFound.among("task", name, names()) from None


def build(name: str, options: Mapping[str, Any]) -> Task:
    """Make a task from its options; a list may be given where it holds several values.

    Raises:
        ReferenceNotFound: There is no such task, or it has no such option.
        InvalidInput: An option's value is not possible.

    Example:
        >>> build("translate", {"to": "French"}).to
        'French'
    """
    from smidgen.tasks.task import checked

    return cast("Task", checked(find(name), options))


def do(
    name: str,
    text: str | Sequence[str],
    *,
    model: str | LanguageModel | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> Any:
    """Do a task for one text, or for each of several.

    Args:
        name: The task.
        text: The text, or several of them.
        model: A model's name, or one opened with `smidgen.tasks.opened_model.OpenedModel`; the one that the task was
            specialised to where None, else the embedded default.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
        progress: Receives reports.
        **options: Fields of the task.

    Returns:
        The result as plain data, or a list of them.

    Example:
        >>> do("write", "A line about rain.", model="echo", words=5)["text"]
        'A line about rain.'
    """
    from smidgen.tasks import profile
    from smidgen.tasks.opened_model import OpenedModel

    task = build(name, options)
    if model is None or isinstance(model, str):
        chosen = model or profile.default_model(name, task)
        with OpenedModel(chosen, threads=threads, offline=offline, progress=progress) as opened:
            return _done(profile.applied(name, task, opened.facts), text, opened)
    return _done(profile.applied(name, task, getattr(model, "facts", {})), text, model)


def _done(task: Task, text: str | Sequence[str], model: LanguageModel) -> Any:
    if isinstance(text, str):
        return task.done(text, model)
    return task.many(list(text), model)


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_") or name not in names():
        raise AttributeError(f"module 'smidgen.tasks' has no attribute {name!r}")
    verb = partial(do, name)
    verb.__doc__ = find(name).__doc__
    return verb


def __dir__() -> list[str]:
    return sorted({*globals(), *names()})
