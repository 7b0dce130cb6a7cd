"""The main job: a budget becomes a proven small model in one folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from smidgen import machine
from smidgen.progress import Progress, silent
from smidgen.recipe import eyes, receipt
from smidgen.recipe.budget import Budget
from smidgen.recipe.job import Forecast, Job, Order, Outcome
from smidgen.recipe.journal import Journal
from smidgen.recipe.recipe import Recipe
from smidgen.recipe.run_folder import PLAN, run_folder


def make(
    source: str,
    *,
    fit: str | int | None = None,
    speed: str | float | None = None,
    keep: str | float | None = None,
    data: str | None = None,
    images: str | None = None,
    within: str | float | None = None,
    out: str | Path,
    seed: int = 0,
    threads: int | None = None,
    offline: bool = False,
    max_memory: int | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Make a small model that keeps within a budget, and prove what was kept.

    A run that was stopped goes on where it was when the same call is made again.

    Args:
        source: ``smollm2:135m``, ``hf:org/name``, a folder, a ``.gguf`` file.
        fit: Largest size of the file, "80MB".
        speed: Least generation speed on this machine, "20tok/s".
        keep: Least share of tokens whose top choice stays, "95%".
        data: Your text, for calibration and measurement.
        images: A folder of images such as the model is to read, for a model that sees: what reads them is then stored
            in 8 bits going by them, and else as it is. Its bytes count towards ``fit`` either way.
        within: Time allowed, "4m".
        out: Folder to write.
        seed: Of everything random.
        threads: Threads; the physical cores where None.
        offline: Take only what is on this machine.
        max_memory: Bytes of memory to stay within; what is free where None.
        fresh: Forget an earlier run in the folder.
        progress: Receives reports.

    Raises:
        RecipeError: The budget cannot be understood.
        BudgetNotMet: No way of cutting and storing reaches the size.
        Locked: Another process works in the folder.
        OutOfResources: Too little disk or memory to end well.

    Example:
        outcome = smidgen.make("smollm2:135m", fit="80MB", within="4m", out="small")
        print(outcome.receipt["quality"][0]["kl_mean"])
    """
    settings: dict[str, Any] = {"threads": threads, "offline": offline, "max_memory": max_memory, "images": images}
    budget, order = _asked(source, fit=fit, speed=speed, keep=keep, within=within, data=data, seed=seed, **settings)
    identity = {"source": source, "data": data, "seed": seed, "threads": order.threads, "budget": budget.to_dict()}
    identity |= {"images": eyes.digest(images)} if images is not None else {}
    with run_folder(Path(out), identity, fresh) as (folder, journal):
        finished = finished_in(folder, journal)
        if finished:
            return finished
        job = Job(order, budget, journal, folder, progress)
        return job.make()


def apply(
    recipe: str | Path,
    *,
    out: str | Path,
    threads: int | None = None,
    offline: bool = False,
    max_memory: int | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Run an exact recipe; on the same machine and thread count it gives the same bytes.

    Args:
        recipe: The ``recipe.yaml`` of a made folder, or one written by hand.
        out: Folder to write.
        threads: Threads; the recipe's where None.
        offline: Take only what is on this machine.
        max_memory: Bytes of memory to stay within; what is free where None.
        fresh: Forget an earlier run in the folder.
        progress: Receives reports.

    Raises:
        RecipeError: The recipe has faults; all are shown.
    """
    content = Recipe.read(Path(recipe))
    order = Order(
        content.source, content.data, content.seed, _use_threads(threads or content.threads), offline, max_memory
    )
    identity = {"recipe": hashlib.sha256(content.to_yaml().encode()).hexdigest(), "threads": order.threads}
    with run_folder(Path(out), identity, fresh) as (folder, journal):
        finished = finished_in(folder, journal)
        if finished:
            return finished
        job = Job(order, Budget(), journal, folder, progress, recipe=content)
        return job.apply(content)


def forecast(source: str, *, out: str | Path, progress: Progress = silent, **asked: Any) -> Forecast:
    """Plan what `make` would do, without doing it.

    Args:
        source: As for `make`.
        out: Folder that would be written.
        progress: Receives reports.
        **asked: The limits and settings of `make`: ``fit``, ``speed``, ``data``, ``threads`` and so on.
    """
    import tempfile

    budget, order = _asked(source, **asked)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        job = Job(order, budget, Journal(folder / PLAN, {}), folder, progress)
        return job.forecast(Path(out))


def _asked(
    source: str,
    *,
    data: str | None = None,
    images: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    offline: bool = False,
    max_memory: int | None = None,
    **limits: Any,
) -> tuple[Budget, Order]:
    """Divide what a job is asked for into what the result may cost and what it is made from."""
    budget = Budget.parse(**limits)
    settings: dict[str, Any] = {"threads": threads, "offline": offline, "max_memory": max_memory}
    return budget, replace(order_of(source, data=data, seed=seed, **settings), images=images)


def order_of(
    source: str, *, data: str | None, seed: int, threads: int | None, offline: bool, max_memory: int | None
) -> Order:
    """Return what a result is made from, with the threads of the arithmetic set."""
    return Order(source, data, seed, _use_threads(threads), offline, max_memory)


def _use_threads(threads: int | None) -> int:
    import torch

    count = threads or machine.cores()[0]
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True)
    return count


def finished_in(folder: Path, journal: Journal) -> Outcome | None:
    """Return what an earlier run in the folder ended in; None where none did."""
    if not journal.known("finished") or not (folder / receipt.NAME).is_file():
        return None
    content = receipt.read(folder)
    return Outcome(folder, content, receipt.verdict(content["met"]), already_done=True)
