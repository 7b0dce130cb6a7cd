"""The state of a training on disk, so that a killed run goes on and ends in the same weights.

A folder holds ``state.safetensors`` (trained weights, the optimizer's moments, steps done, curves) and, where
held-out loss is watched, ``best-<step>.safetensors``. Random numbers need no state: the loop seeds every step
from (seed, step). Every file appears whole or not at all; the state is written last and names its best weights.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile
from smidgen.models.files import TEMPORARY_PREFIX, atomic_path, make_folder
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.training.overfitting import Watch

if TYPE_CHECKING:
    import torch

STATE = "state.safetensors"


@dataclass
class Checkpoints:
    """Where and how often a training is kept.

    Attributes:
        folder: Folder of its own; created where missing.
        key: Says what is trained on what; a state with another key is not resumed.
        seconds: Write when so many seconds have passed.
        steps: Write after so many steps as well; None: by time alone.
    """

    folder: Path
    key: str
    seconds: float = 60.0
    steps: int | None = None
    _written: float = field(default_factory=time.monotonic, repr=False)

    def due(self, step: int) -> bool:
        """Whether the state is to be written now."""
        by_step = self.steps is not None and step % self.steps == 0
        return by_step or time.monotonic() - self._written >= self.seconds

    def save(
        self,
        step: int,
        weights: Mapping[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
        watch: Watch,
    ) -> None:
        """Write the state atomically; the one before is kept until then.

        Raises:
            OutOfResources: The disk is full.
            InvalidInput: The folder may not be written.
        """
        make_folder(self.folder)
        best = self.folder / f"best-{watch.best_step}.safetensors"
        if watch.best and not best.is_file():
            _write(best, watch.best, {"key": self.key})
        tensors = {f"weight/{name}": weight for name, weight in weights.items()}
        for name, weight in weights.items():
            state = optimizer.state[weight]
            tensors |= {f"{moment}/{name}": state[moment] for moment in ("exp_avg", "exp_avg_sq")}
        record = {"key": self.key, "step": step, "watch": watch.to_dict(), "best": best.name if watch.best else None}
        _write(self.folder / STATE, tensors, {"record": json.dumps(record)})
        for old in self.folder.glob("best-*.safetensors"):
            if old != best:
                old.unlink()
        self._written = time.monotonic()

    def restore(
        self,
        weights: Mapping[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
        watch: Watch,
        progress: Progress = silent,
    ) -> int:
        """Take over the last state and return the steps done; 0 where there is none that fits.

        A damaged state and one of another training are reported and left behind.
        """
        for leftover in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink(missing_ok=True)
        if not (self.folder / STATE).is_file():
            return 0
        try:
            tensors, metadata = _read(self.folder / STATE)
            record = json.loads(metadata["record"])
            best = _read(self.folder / record["best"])[0] if record["best"] else {}
            if record["key"] != self.key:
                progress(Event("training", note="the checkpoint belongs to another training; starting anew"))
                return 0
            _take_over(tensors, record, weights, optimizer)
        except (DamagedFile, KeyError, ValueError) as error:
            progress(Event("training", note=f"the checkpoint is damaged; starting anew ({error})"))
            return 0
        device = next(iter(weights.values())).device
        watch.restore(record["watch"], {name: tensor.to(device) for name, tensor in best.items()})
        return int(record["step"])

    def clear(self) -> None:
        """Remove the state, once its result is kept elsewhere."""
        for path in (*self.folder.glob("best-*.safetensors"), self.folder / STATE):
            path.unlink(missing_ok=True)


def fingerprint(module: Any) -> str:
    """Return the sha256 of all parameters' names and bytes, in hex."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        digest.update(f"{name}\0{parameter.dtype}\0{tuple(parameter.shape)}\0".encode())
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _take_over(
    tensors: Mapping[str, torch.Tensor],
    record: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    import torch

    found = {name: [tensors[f"{part}/{name}"] for part in ("weight", "exp_avg", "exp_avg_sq")] for name in weights}
    for name, parts in found.items():
        if any(part.shape != weights[name].shape for part in parts):
            raise DamagedFile(f"{name} has another shape in the checkpoint.")
    for name, weight in weights.items():
        value, first, second = (part.to(weight.device) for part in found[name])
        weight.data.copy_(value)
        done = torch.tensor(float(record["step"]), device=weight.device if weight.is_cuda else "cpu")
        optimizer.state[weight] = {"step": done, "exp_avg": first, "exp_avg_sq": second}


def _write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, metadata)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.") from error
