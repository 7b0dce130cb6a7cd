"""One run of the main job: the source, the texts, the plan, the folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import machine
from smidgen.errors import BudgetNotMet, OutOfResources, RecipeError
from smidgen.export.runnable import gguf_of
from smidgen.models.files import projector_beside, require_free
from smidgen.progress import Event, Progress
from smidgen.recipe import handover, receipt, seeing
from smidgen.recipe.budget import Budget
from smidgen.recipe.gathering import WINDOW_LENGTH
from smidgen.recipe.journal import Journal
from smidgen.recipe.materials import Materials
from smidgen.recipe.planner import Before, Planner
from smidgen.recipe.proof import Proof, prove
from smidgen.recipe.quantities import format_size
from smidgen.recipe.recipe import Recipe, Step
from smidgen.recipe.run_folder import WORK
from smidgen.recipe.runner import Runner

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.models.sources import LocalModel

MOST_WINDOWS, FEWEST_WINDOWS = 48, 8
SECONDS_PER_WINDOW = 8.0
"""About what one calibration window costs through all passes, relative to a budget of time."""
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Outcome:
    """What a run ended in.

    Attributes:
        folder: Everything that is handed over.
        receipt: Content of ``receipt.json``.
        met: Whether no limit was missed.
        already_done: Whether the folder was finished before.
    """

    folder: Path
    receipt: dict[str, Any]
    met: bool
    already_done: bool = False


@dataclass(frozen=True)
class Forecast:
    """What a run would do and need.

    Attributes:
        steps: One sentence per step.
        predicted: ``bytes`` and ``kl_mean`` of the result, before healing.
        mixes: The best ways of meeting the budget that were weighed.
        seconds: Expected time.
        memory_bytes: Expected largest memory.
        disk_bytes: Expected disk space while it runs.
    """

    steps: list[str]
    predicted: dict[str, float]
    mixes: list[dict[str, Any]]
    seconds: float
    memory_bytes: int
    disk_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Order:
    """What was asked for, besides the budget.

    Attributes:
        source: Reference of the model.
        data: The user's text; None is the built-in one.
        seed: Of everything random.
        threads: Threads of the arithmetic.
        offline: Take only what is on this machine.
        max_memory: Bytes of memory to stay within; what is free where None.
        images: A folder of images, by which what reads images is stored in fewer bits; None leaves it as it is.
    """

    source: str
    data: str | None = None
    seed: int = 0
    threads: int = 1
    offline: bool = False
    max_memory: int | None = None
    images: str | None = None


class Job:
    """One run.

    Args:
        order: What was asked for.
        budget: What the result may cost.
        journal: The plan.
        folder: What is handed over goes here.
        progress: Receives reports.
        recipe: What is to be repeated, for `apply`.

    Raises:
        RecipeError: The recipe was written for another source or text.
        OutOfResources: Too little disk or memory to end well.
    """

    def __init__(
        self,
        order: Order,
        budget: Budget,
        journal: Journal,
        folder: Path,
        progress: Progress,
        recipe: Recipe | None = None,
    ) -> None:
        from smidgen.data.resolve import resolve
        from smidgen.models.load import load_local
        from smidgen.models.reference import parse
        from smidgen.models.sources import fetch
        from smidgen.models.store import Store

        self.order, self.budget, self.journal, self.folder = order, budget, journal, folder
        self.progress, self.work = progress, folder / WORK if (folder / WORK).is_dir() else folder
        texts = resolve(order.data, offline=order.offline, seed=order.seed)
        store = Store()
        self.local: LocalModel = fetch(parse(order.source, store), store, offline=order.offline, progress=progress)
        self._check_recipe(recipe, texts.calibration.sha256)
        seeing.require(self.local, order.images, recipe)
        self._require_resources(self.local.bytes)
        source = load_local(self.local, progress=progress)
        windows = recipe.windows if recipe else journal.decide("calibration windows", self._windows)
        length = recipe.length if recipe else min(WINDOW_LENGTH, source.anatomy.context_length)
        kept = self.work / "own_text.json"
        self.materials = Materials(source, texts, windows, length, order.seed, order.threads, kept, progress)
        for images in seeing.folders(order.images, recipe):
            self.materials.tiles(images)
        self.runner = Runner(self.materials, self.work / "steps", progress)
        self.proof = Proof(self.materials, gguf_of(self.local, store, progress=progress), progress)

    def _check_recipe(self, recipe: Recipe | None, text_sha256: str) -> None:
        if recipe is None:
            return
        problems = []
        if recipe.sha256 and recipe.sha256 != self.local.sha256:
            problems.append(
                f"{recipe.source} has the sha256 {self.local.sha256}, the recipe was written for {recipe.sha256}."
            )
        if recipe.data_sha256 and recipe.data_sha256 != text_sha256:
            problems.append("The calibration text is not the one that the recipe was written for.")
        if problems:
            raise RecipeError(problems, remedy="Bring the original, or remove its sha256 from the recipe to go on.")

    def _windows(self) -> int:
        within = self.budget.within
        if within is None:
            return MOST_WINDOWS
        return max(FEWEST_WINDOWS, min(MOST_WINDOWS, int(within / SECONDS_PER_WINDOW)))

    def _require_resources(self, size: int) -> None:
        need = self.needs(size)
        require_free(self.folder, need["disk"])
        limit = self.order.max_memory
        available = machine.memory()[1] if limit is None else limit
        if available < need["memory"]:
            allowed = "are free" if limit is None else "are allowed"
            raise OutOfResources(
                f"{format_size(need['memory'])} of memory are needed, and {format_size(available)} {allowed}.",
                remedy="Close other programs, use a machine with more memory, or only store it in fewer bits: "
                "'smidgen quantize' with --format reads a model from disk, block by block.",
            )

    def needs(self, size: int) -> dict[str, int]:
        """Return the memory and disk that a source of so many bytes takes: float32 copies of source and result."""
        quantised = self.local.kind == "gguf"
        parameters = size * 8 // 5 if quantised else size // 2
        return {"memory": parameters * 4 * 3 + 1_500_000_000, "disk": parameters * 4 * 3}

    def planner(self, before: Before) -> Planner:
        """Return the planner of this run, for what follows after what is done first."""
        return Planner(self.budget, self.materials, self.journal, self.runner, self.progress, before)

    @cached_property
    def _before(self) -> Before:
        """What is done to what reads images before the rest is planned, and what it then takes of the size."""
        images, decided = self.order.images, []
        if images is not None:
            because = "8 bits, rounded going by the images, change what a tower sees least for half of its bytes"
            chosen = partial(seeing.plan, self.materials.source, images)
            decided = self.journal.decide("what reads images", chosen, because=because)
        steps = tuple(map(Step.of, decided))
        model = self.runner.run(steps)[0] if steps else self.materials.source
        size = seeing.write(model, self.local, self._result)
        if self.budget.fit is not None and size >= self.budget.fit:
            raise BudgetNotMet(
                f"What reads images takes {format_size(size)} of the {format_size(self.budget.fit)} allowed.",
                remedy="Allow more, give --images FOLDER to store it in 8 bits going by these images, or prune it "
                "first: smidgen prune --images FOLDER.",
            )
        return Before(steps, size)

    @property
    def _result(self) -> Path:
        return self.work / "result.gguf"

    def make(self) -> Outcome:
        """Plan, run, measure, and plan again while a limit is missed and time is left."""
        planner = self.planner(self._before)
        measured = self.journal.decide("source speed", self._source_speed)
        windows = self.journal.decide("measured windows", lambda: self.proof.windows(self.budget.within))
        reserve = self.proof.seconds(windows)
        target = planner.target(measured, self.proof.source.stat().st_size)
        for number in range(1, MOST_ATTEMPTS + 1):
            steps, model, predicted = planner.attempt(number, target, reserve)
            path = self._write(model)
            reached = self.journal.decide(f"attempt {number}: reached", partial(self._reached, path))
            target = self._next_target(target, reached)
            if target <= 0:
                break
        return self._hand_over(steps, model, path, predicted, windows)

    def _source_speed(self) -> float | None:
        """Measure the source's speed of writing where a speed was asked for."""
        if self.budget.speed is None:
            return None
        speed: float = self.proof.speed(self.proof.source)["tg128"]["mean"]
        return speed

    def _reached(self, path: Path) -> dict[str, Any]:
        speed = self.proof.speed(path) if self.budget.speed is not None else None
        return {"bytes": receipt.size_of(path), "tg128": None if speed is None else speed["tg128"]["mean"]}

    def _next_target(self, target: int, reached: Mapping[str, Any]) -> int:
        """Return the bytes to aim at next, or 0 when nothing was missed or no time is left."""
        within = self.budget.within
        out_of_time = within is not None and self.journal.elapsed > within * 0.6
        if self.budget.fit is not None and reached["bytes"] > self.budget.fit:
            return target - (int(reached["bytes"]) - self.budget.fit)
        if self.budget.speed is not None and reached["tg128"] < self.budget.speed and not out_of_time:
            return int((reached["bytes"] - self._before.bytes) * reached["tg128"] / self.budget.speed * 0.98)
        return 0

    def apply(self, recipe: Recipe) -> Outcome:
        """Run the recipe's steps and measure the result."""
        windows = self.journal.decide("measured windows", lambda: self.proof.windows(None))
        steps = seeing.sealed(recipe.steps)
        model, _ = self.runner.run(steps)
        path = self._write(model)
        self.journal.decide("attempt 1: reached", lambda: self._reached(path))
        return self._hand_over(steps, model, path, {}, windows)

    def draft(self) -> Outcome:
        """Make a small model that guesses ahead for the source, and measure how often it is right."""
        from smidgen.recipe.drafting import measure_guesses

        windows = self.journal.decide("measured windows", lambda: self.proof.windows(self.budget.within))
        steps = self.planner(Before()).draft(self.proof.seconds(windows))
        model, _ = self.runner.run(steps)
        path = self._write(model, eyes=False)
        self.journal.decide("attempt 1: reached", partial(self._reached, path))
        return self._hand_over(steps, model, path, {}, windows, more=partial(measure_guesses, self.proof, self.local))

    def _write(self, model: Model, *, eyes: bool = True) -> Path:
        from smidgen.export import gguf

        path = self._result
        gguf.write(model, path, progress=self.progress)
        if eyes:
            seeing.write(model, self.local, path)
        return path

    def _hand_over(
        self,
        steps: Sequence[Step],
        model: Model,
        path: Path,
        predicted: Mapping[str, Any],
        windows: int,
        *,
        more: Callable[[Path], Mapping[str, Any]] | None = None,
    ) -> Outcome:
        before = self._before_storing(steps)
        handover.write_model(path, model, before, self.folder)
        handover.write_texts(self.folder, self.proof.texts())
        handover.write_datasheet(self.folder, self.materials.texts.datasheet)
        _, records = self.runner.run(steps)
        content = prove(self.proof, self.folder / handover.MODEL, model, predicted, windows, self.budget)
        recipe = Recipe(
            source=self.order.source,
            steps=tuple(steps),
            sha256=self.local.sha256,
            data=self.order.data,
            data_sha256=self.materials.texts.calibration.sha256,
            windows=self.materials.windows,
            length=self.materials.length,
            seed=self.order.seed,
            threads=self.order.threads,
        )
        content |= {
            "plan": {"decisions": list(self.journal.entries)},
            "steps": [record.to_dict() for record in records],
            "seconds": round(self.journal.elapsed, 1),
        }
        seeing.count_source(content, self.materials.source, self.local)
        content |= seeing.described(self.folder / handover.MODEL, steps)
        content |= {} if more is None else more(self.folder / handover.MODEL)
        handover.write_papers(self.folder, model, recipe, content, self.local.files)
        self.journal.decide("finished", lambda: True)
        shutil.rmtree(self.work / "steps", ignore_errors=True)
        for scratch in (path, projector_beside(path), self.work / "own_text.json"):
            scratch.unlink(missing_ok=True)
        return Outcome(self.folder, content, receipt.verdict(content["met"]))

    def _before_storing(self, steps: Sequence[Step]) -> Model | None:
        stored = [number for number, step in enumerate(steps) if step.operation == "quantize" and step.images is None]
        cut = list(steps[: stored[0]]) if stored else list(steps)
        return self.runner.run(cut)[0] if any(step.operation != "quantize" for step in cut) else None

    def forecast(self, out: Path) -> Forecast:
        """Say what `make` would do."""
        self.progress(Event("planning"))
        planner, needs = self.planner(self._before), self.needs(self.local.bytes)
        require_free(out, needs["disk"])
        target = planner.target(self._source_speed(), self.proof.source.stat().st_size)
        decided = planner.choose_shape(target)
        sentences = planner.describe(decided, self.proof.seconds(self.proof.windows(self.budget.within)))
        return Forecast(
            steps=sentences,
            predicted={
                "bytes": target + self._before.bytes,
                "kl_mean": decided["structural"] + decided["quantization"],
            },
            mixes=decided["mixes"],
            seconds=self.budget.within or planner.seconds_without_clock(decided),
            memory_bytes=needs["memory"],
            disk_bytes=needs["disk"],
        )
