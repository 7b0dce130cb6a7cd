"""Decides what is done to a model: measures, predicts, writes the plan, and goes on from what was reached."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from smidgen import formats
from smidgen.errors import BudgetNotMet
from smidgen.export.gguf import metadata_bytes
from smidgen.models.model import Model
from smidgen.progress import Event, Progress
from smidgen.recipe.budget import Budget
from smidgen.recipe.journal import Journal
from smidgen.recipe.materials import Materials
from smidgen.recipe.quantities import format_size
from smidgen.recipe.recipe import Step
from smidgen.recipe.runner import Runner
from smidgen.recipe.shapes import Prober, Shape, best_mix, describe_mixes, overhead_of, smallest_file, table_after
from smidgen.shrink.quantize.allocate import Choice, allocate, choices, smallest_bytes
from smidgen.shrink.quantize.sensitivity import factors

MEASURED_WINDOWS = 1
TOGETHER = 3.0
"""What all matrices stored together cost, in units of what each is predicted to cost alone, added up: 0.036 nats were
measured for 0.011 predicted, 0.072 for 0.026, 0.036 for 0.013."""
HEALING_BATCH = 4
STORING, STORING_PER_WINDOW = 0.45, 0.04
"""Time that storing takes, in units of the time that probing the same model took: as such, and per window."""
RATES, MANY_STEPS = {"healing": (5e-5, 1e-4), "tuning": (3e-4, 3e-4)}, 200
"""Learning rates of a few and of many steps: 18 steps at twice the first leave more damage than they find."""
STEPS_WITHOUT_CLOCK = {"healing": 1500, "tuning": 60}
MOST_STEPS = {"healing": 4000, "tuning": 120}
FEWEST_STEPS = {"healing": 8, "tuning": 24}
"""Fewer steps than these change nothing that can be measured."""
TIMED_STEPS, TIMED_BATCH = 2, 2
DRAFT_SHARE, DRAFT_FORMAT = 1 / 8, "q4_0"
"""Share of the layers that a draft keeps, and what it is stored in: it must be many times as fast as its model."""
LOOK_SHARE = 0.12
"""Share of a training's time that looking at the held-out loss may take."""
LOOK_COST = 0.4
"""What reading a token costs, teacher included, in units of training on it."""
FEWEST_LOOKS, MOST_LOOKS = 2, 8
LEAST_SECONDS = {"healing": 15.0, "tuning": 45.0}
"""With less time left not even a few steps are timed."""
SAFETY = 0.985
"""Share of a size that speed allows which is aimed at, since decoding is not quite proportional to bytes."""


@dataclass(frozen=True)
class Allocation:
    """A format for every matrix, and what that is predicted to cost.

    Attributes:
        formats: Number format by matrix name.
        damage: Predicted KL divergence of storing, nats per token, by matrix name.
        bytes: Predicted size of the file.
    """

    formats: dict[str, str]
    damage: dict[str, float]
    bytes: int

    @property
    def total(self) -> float:
        """Predicted KL divergence of the whole model."""
        return sum(self.damage.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the plan."""
        return {"formats": self.formats, "damage": self.damage, "bytes": self.bytes}


class Probed:
    """A model with what is known of it: choices per matrix, overhead of its file.

    Args:
        model: The source, or a model cut from it.
        materials: The source and texts.
        progress: Receives reports.
        source: What is known of the source, for a model cut from it.
    """

    def __init__(self, model: Model, materials: Materials, progress: Progress, *, source: Probed | None = None) -> None:
        self.model, self.materials, self.progress, self.source = model, materials, progress, source

    @cached_property
    def table(self) -> dict[str, list[Choice]]:
        """The choices of every matrix; a cut model's are those of the source, carried over."""
        if self.source is not None:
            return table_after(self.model, self.source.model, self.source.table)
        windows = self.materials.calibration(self.model)[:MEASURED_WINDOWS]
        sensitivity = self.materials.sensitivity(self.progress)
        measured = factors(self.model, sensitivity, windows, seed=self.materials.seed, progress=self.progress)
        together = {name: factor * TOGETHER for name, factor in measured.items()}
        return choices(self.model, sensitivity, factors=together, progress=self.progress)

    @cached_property
    def overhead(self) -> int:
        """Bytes of the file that are no matrices."""
        return metadata_bytes(self.model)

    def allocation(self, target: int) -> Allocation | None:
        """Choose formats so that the file keeps within the target."""
        together = self.model.anatomy.stored_together()
        chosen = allocate(self.table, target - self.overhead, together=together)
        if chosen is None:
            return None
        size = sum(choice.bytes for choice in chosen.values()) + self.overhead
        formats = {name: choice.format for name, choice in chosen.items()}
        return Allocation(formats, {name: round(choice.damage, 7) for name, choice in chosen.items()}, size)


@dataclass(frozen=True)
class Before:
    """What is done before anything is planned, and what it leaves of a size.

    Attributes:
        steps: Steps that are done first: those to what reads images.
        bytes: What the file that reads images takes of the size allowed.
    """

    steps: tuple[Step, ...] = ()
    bytes: int = 0


class Planner:
    """Turns a budget into steps, every decision written before it is followed.

    Args:
        budget: What the user allows.
        materials: Source and texts.
        journal: The plan.
        runner: Runs the steps.
        progress: Receives reports.
        before: What is done first, and what it takes of the size allowed.
    """

    def __init__(
        self,
        budget: Budget,
        materials: Materials,
        journal: Journal,
        runner: Runner,
        progress: Progress,
        before: Before,
    ) -> None:
        self.budget, self.materials, self.journal = budget, materials, journal
        self.runner, self.progress, self.before = runner, progress, before
        self.source = Probed(materials.source, materials, progress)

    @property
    def whole(self) -> Shape:
        """The source's shape."""
        return Shape.of(self.materials.source.anatomy)

    def target(self, speed: float | None, source_bytes: int) -> int:
        """Return the bytes to aim at: what ``fit`` allows beside what reads images, and what the asked speed allows.

        Generation reads every weight for every token, so its speed goes with the inverse of the bytes.

        Args:
            speed: Measured generation speed of the source in tokens per second; None when it is not limited.
            source_bytes: Bytes of the file it was measured on.
        """
        limits = [] if self.budget.fit is None else [self.budget.fit - self.before.bytes]
        if self.budget.speed is not None and speed is not None:
            limits.append(int(source_bytes * speed / self.budget.speed * SAFETY))
        return min(limits)

    def attempt(self, number: int, target: int, reserve: float) -> tuple[list[Step], Model, dict[str, Any]]:
        """Plan and run one attempt.

        Args:
            number: Counted from 1.
            target: Bytes the file may have.
            reserve: Seconds to keep for verifying.

        Returns:
            The steps, the stored model, and what was predicted.
        """
        name = f"attempt {number}"
        decided = self.journal.decide(
            f"{name}: shape", lambda: self.choose_shape(target), because=f"aiming at {format_size(target)}"
        )
        shape = Shape(**decided["shape"])
        cuts = shape.steps(self.whole)
        steps = [*self.before.steps, *cuts]
        if cuts:
            storing = decided["probing_seconds"] * (STORING + STORING_PER_WINDOW * self.materials.windows)
            steps += self._healing(f"{name}: healing", steps, reserve + storing)
        model, _ = self.runner.run(steps)
        probed = Probed(model, self.materials, self.progress, source=self.source) if cuts else self.source
        allocation = self.journal.decide(
            f"{name}: formats", lambda: self._allocation(probed, target), because="least predicted damage that fits"
        )
        steps.append(Step("quantize", {"formats": allocation["formats"], "solver": "gptq"}))
        steps += self._tuning(f"{name}: tuning", steps, reserve)
        model, _ = self.runner.run(steps)
        predicted = {
            "bytes": allocation["bytes"] + self.before.bytes,
            "kl_mean": round(decided["structural"] + sum(allocation["damage"].values()), 5),
            "structural": decided["structural"],
            "quantization": round(sum(allocation["damage"].values()), 5),
            "damage": allocation["damage"],
            "mixes": decided["mixes"],
        }
        return steps, model, predicted

    def draft(self, reserve: float) -> list[Step]:
        """Return the steps that make a draft: few layers, the whole vocabulary, healed to say what the source would.

        Args:
            reserve: Seconds to keep for measuring.
        """
        whole = self.whole
        fixed = self.materials.source.anatomy.layers_fixed
        layers = whole.layers if fixed else max(1, round(whole.layers * DRAFT_SHARE))
        steps = replace(whole, layers=layers).steps(whole)
        steps += self._healing("draft: healing", steps, reserve)
        model, _ = self.runner.run(steps)
        fits = all(formats.find(DRAFT_FORMAT).fits(model.shape(name)[1]) for name in model.anatomy.matrices())
        stored = [Step("quantize", {"default": DRAFT_FORMAT, "solver": "nearest"})] if fits else []
        return [*steps, *stored]

    def _allocation(self, probed: Probed, target: int) -> dict[str, Any]:
        allocation = probed.allocation(target)
        if allocation is None:
            least = smallest_bytes(probed.table) + probed.overhead
            needed, allowed = (format_size(size + self.before.bytes) for size in (least, target))
            raise BudgetNotMet(f"The cut model needs {needed}, more than {allowed}.")
        return allocation.to_dict()

    def choose_shape(self, target: int) -> dict[str, Any]:
        """Weigh the ways of meeting a size and return the best as plain data for the plan.

        Raises:
            BudgetNotMet: Nothing reaches the size.
        """
        probed, materials = self.source, self.materials
        started = time.monotonic()
        table = probed.table
        probing = time.monotonic() - started
        smallest, least = smallest_file(probed.model, table, probed.overhead)
        if smallest > target:
            beside = self.before.bytes
            eyes = f", and {format_size(beside)} for what reads images" if beside else ""
            raise BudgetNotMet(
                f"{format_size(target + beside)} cannot be reached from {materials.source.lineage.origin.name}: the "
                f"smallest file smidgen makes of it is {format_size(smallest + beside)} "
                f"({least.describe(self.whole)}, lowest formats{eyes}).",
                remedy=f"Allow at least {format_size((smallest + beside) * 1.01)}, where little would be kept, "
                "or start from a smaller model.",
            )
        calibration = materials.calibration(probed.model)
        prober = Prober(
            probed.model,
            calibration,
            materials.token_use(probed.model),
            stand_in=materials.texts.stand_in,
            progress=self.progress,
        )
        best, weighed = best_mix(probed.model, table, prober, target, probed.overhead)
        assert best is not None
        return {
            "shape": best.shape.to_dict(),
            "structural": round(best.structural, 5),
            "quantization": round(best.quantization, 5),
            "overhead": overhead_of(best.shape, self.whole, probed.overhead),
            "probing_seconds": round(probing, 1),
            "mixes": describe_mixes(weighed, self.whole),
        }

    def describe(self, decided: Mapping[str, Any], proving: float) -> list[str]:
        """Say what an attempt would do, one sentence per step.

        Args:
            decided: What `choose_shape` returned.
            proving: Seconds for measuring the result.
        """
        shape = Shape(**decided["shape"])
        sentences = [f"Store what reads images as {step.parameters['default']}." for step in self.before.steps]
        if shape != self.whole:
            sentences.append(f"Cut to {shape.describe(self.whole)} (KL {decided['structural']:.3f} before healing).")
            sentences.append("Heal by distillation from the source, as long as the time allows.")
        count = len(self.source.table)
        sentences.append(f"Store {count} matrices by gptq, each in its own format (KL {decided['quantization']:.3f}).")
        sentences.append("Tune the norms by distillation, which costs no bytes.")
        sentences.append(f"Measure the finished file against the source (about {proving:.0f} s).")
        return sentences

    def seconds_without_clock(self, decided: Mapping[str, Any]) -> float:
        """Return about how long `make` takes when no time is given, from a few timed training steps."""
        training, _ = self.materials.healing(self.materials.source)
        operation = Step("distill", {"batch_size": HEALING_BATCH, "steps": TIMED_STEPS}).build()
        rate: float = operation.measure_throughput(self.materials.source, self.materials.source, training)
        kinds = ["tuning"] if Shape(**decided["shape"]) == self.whole else ["healing", "tuning"]
        tokens = sum(STEPS_WITHOUT_CLOCK[kind] for kind in kinds) * HEALING_BATCH * training.shape[1]
        return tokens / rate + 120.0

    def _left(self) -> float | None:
        return None if self.budget.within is None else self.budget.within - self.journal.elapsed

    def _training(self, kind: str, parameters: Mapping[str, Any], reserve: float, model: Model) -> dict[str, int]:
        """Return how many steps to train and how often to look, by the time left and a few real steps timed.

        Args:
            kind: ``healing`` or ``tuning``.
            parameters: Of the distillation.
            reserve: Seconds to keep for what comes after it.
            model: What is to be trained.

        Returns:
            ``steps``, 0 where too few would fit, and ``evaluate_every``.
        """
        training, watched = self.materials.healing(model)
        left = self._left()
        count = STEPS_WITHOUT_CLOCK[kind]
        if left is not None:
            seconds = left - reserve
            if seconds < LEAST_SECONDS[kind]:
                return {"steps": 0, "evaluate_every": 0}
            self.progress(Event(f"timing {kind}"))
            started = time.monotonic()
            operation = Step("distill", {**parameters, "steps": TIMED_STEPS, "batch_size": TIMED_BATCH}).build()
            rate = operation.measure_throughput(model, self.materials.source, training, steps=1)
            seconds = (seconds - (time.monotonic() - started)) * (1 - LOOK_SHARE)
            count = min(MOST_STEPS[kind], int(seconds * rate / (HEALING_BATCH * training.shape[1])))
        looks = int(count * HEALING_BATCH * LOOK_SHARE / (LOOK_COST * len(watched)))
        between = math.ceil(count / max(FEWEST_LOOKS, min(MOST_LOOKS, looks)))
        return {"steps": count if count >= FEWEST_STEPS[kind] else 0, "evaluate_every": between}

    def _healing(self, name: str, steps: Sequence[Step], reserve: float) -> list[Step]:
        return self._taught(name, "healing", {}, steps, reserve, "what the time left allows at this pace")

    def _tuning(self, name: str, steps: Sequence[Step], reserve: float) -> list[Step]:
        because = "norms cost no bytes and take up part of the rounding"
        return self._taught(name, "tuning", {"trainable": "norms"}, steps, reserve, because)

    def _taught(
        self, name: str, kind: str, parameters: Mapping[str, Any], steps: Sequence[Step], reserve: float, because: str
    ) -> list[Step]:
        """Decide on a distillation after the steps so far; none where too little time is left."""

        def choose() -> dict[str, int]:
            model, _ = self.runner.run(steps)
            return self._training(kind, parameters, reserve, model)

        decided = self.journal.decide(name, choose, because=because)
        if not decided["steps"]:
            return []
        rate = RATES[kind][decided["steps"] >= MANY_STEPS]
        return [Step("distill", {"batch_size": HEALING_BATCH, "learning_rate": rate, **parameters, **decided})]
