"""Runs steps one after another, each kept under the hash of everything that decides its outcome."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from smidgen.export.gguf import require_writable
from smidgen.models.files import atomic_write
from smidgen.models.model import Model
from smidgen.progress import Event, Progress
from smidgen.recipe import eyes, snapshot
from smidgen.recipe.materials import Materials
from smidgen.recipe.recipe import Step

DECIDING_ROOMS = ("compiled", "divergence", "formats", "models", "data", "shrink")


@dataclass(frozen=True)
class Done:
    """One step that was run.

    Attributes:
        operation: Its name.
        parameters: Its parameters.
        key: Hash of the step, of everything before it and of the code.
        seconds: How long it took.
        curves: What training recorded, where it trained.
        images: The images that what reads images was shrunk or healed by; None for a step of the language model.
        images_sha256: Their digest.
    """

    operation: str
    parameters: dict[str, Any]
    key: str
    seconds: float
    curves: dict[str, Any] | None = None
    images: str | None = None
    images_sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; steps of the language model say nothing of images."""
        return {name: value for name, value in asdict(self).items() if "images" not in name or value is not None}


@cache
def code_version() -> str:
    """Digest of the code that decides a step's outcome, so that a changed smidgen reuses nothing stale."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for room in DECIDING_ROOMS:
        for path in sorted((root / room).rglob("*.py")) or [root / f"{room}.py"]:
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class Runner:
    """Runs chains of steps in a folder; a chain that begins like an earlier one goes on from there.

    Args:
        materials: What the steps work on.
        folder: Where models between steps and training checkpoints are kept.
        progress: Receives reports.
    """

    def __init__(self, materials: Materials, folder: Path, progress: Progress) -> None:
        self.materials, self.folder, self.progress = materials, folder, progress
        self._latest: tuple[str, Model] | None = None

    def run(self, steps: Sequence[Step]) -> tuple[Model, list[Done]]:
        """Run the steps on the source and return the model and what was done.

        Raises:
            Unsupported: A step makes blocks differ, and llama.cpp could not run the result.
        """
        cuts = [step.build() for step in steps if step.operation == "prune" and step.images is None]
        require_writable(self.materials.source.family, uneven=any(cut.makes_uneven for cut in cuts))
        keys = self._keys(steps)
        done = [self._record(key) for key in keys]
        finished = next((number for number, record in enumerate(done) if record is None), len(steps))
        model = self._after(keys[finished - 1]) if finished else self.materials.source
        records = [record for record in done[:finished] if record is not None]
        for step, key in zip(steps[finished:], keys[finished:], strict=True):
            model, record = self._perform(step, key, model)
            records.append(record)
        return model, records

    def _keys(self, steps: Sequence[Step]) -> list[str]:
        state = json.dumps({"code": code_version(), **self.materials.identity()}, sort_keys=True)
        keys = []
        for step in steps:
            seen = [] if step.images is None else [step.images_sha256 or eyes.digest(step.images)]
            content = json.dumps([state, step.operation, dict(step.parameters), *seen], sort_keys=True)
            state = hashlib.sha256(content.encode()).hexdigest()
            keys.append(state)
        return keys

    def _place(self, key: str) -> Path:
        return self.folder / key[:16]

    def _record(self, key: str) -> Done | None:
        path = self._place(key) / "done.json"
        if not path.is_file():
            return None
        return Done(**json.loads(path.read_text(encoding="utf-8")))

    def _after(self, key: str) -> Model:
        import torch

        if self._latest is None or self._latest[0] != key:
            dtype: torch.dtype = next(self.materials.source.module.parameters()).dtype
            self._latest = (key, snapshot.load(self._place(key) / "model", dtype))
        return self._latest[1]

    def _perform(self, step: Step, key: str, model: Model) -> tuple[Model, Done]:
        self.progress(Event(f"{step.operation}: starting"))
        place = self._place(key)
        place.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        result, curves = self._apply(step, model, place / "checkpoints")
        seconds = round(time.monotonic() - started, 3)
        digest = step.images_sha256
        record = Done(step.operation, dict(step.parameters), key, seconds, curves, step.images, digest)
        snapshot.save(result, place / "model")
        atomic_write(place / "done.json", json.dumps(record.to_dict()))
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        self._latest = (key, result)
        return result, record

    def _apply(self, step: Step, model: Model, checkpoints: Path) -> tuple[Model, dict[str, Any] | None]:
        operation, materials = step.build(), self.materials
        if step.images is not None:
            return self._see(step, operation, model, checkpoints)
        if step.operation == "distill":
            training, watched = materials.healing(model)
            outcome = operation.run(
                model, materials.source, training, watched, checkpoints=checkpoints, progress=self.progress
            )
            return outcome.model, outcome.curves
        if step.operation == "finetune":
            outcome = operation.run(model, *materials.lessons(), checkpoints=checkpoints, progress=self.progress)
            return outcome.model, outcome.curves
        calibration = materials.calibration(model)
        extra: dict[str, Any] = {}
        if step.operation == "prune":
            extra["token_use"] = materials.token_use(model)
        elif operation.needs_sensitivity(model):
            extra["sensitivity"] = materials.sensitivity(self.progress)
        return operation.apply(model, calibration, progress=self.progress, **extra), None

    def _see(self, step: Step, operation: Any, model: Model, checkpoints: Path) -> tuple[Model, dict[str, Any] | None]:
        """Do a step to what reads images."""
        assert step.images is not None
        tiles, progress = self.materials.tiles(step.images), self.progress
        if step.operation != "distill":
            return eyes.shrunk(model, operation, tiles, progress=progress), None
        source = self.materials.source
        healed, outcome = eyes.taught(model, source, operation, tiles, checkpoints=checkpoints, progress=progress)
        return healed, outcome.curves
