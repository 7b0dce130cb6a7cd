"""What is to be trained on what: copies of the model made ready, rows, short trials."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.models.model import Model
from smidgen.progress import Event, Progress
from smidgen.shrink.finetune import _sweep, adapters
from smidgen.shrink.finetune._loss import PackedLoss
from smidgen.shrink.finetune._rounding import Rounding, chosen_formats
from smidgen.shrink.finetune.adapters import Adapter
from smidgen.shrink.finetune.packed import on_packed_base
from smidgen.shrink.finetune.zeros import keep_zeros, pruned_places, require_keepable
from smidgen.shrink.training import loop
from smidgen.shrink.training.checkpoints import Checkpoints, fingerprint

if TYPE_CHECKING:
    from smidgen.data.packing import PackedRows
    from smidgen.shrink.finetune.finetune import Finetune


@dataclass(frozen=True)
class Trainee:
    """A copy of the model as it is trained.

    Attributes:
        model: The copy, its adapter inside.
        names: Parameters to train.
        adapter: What kind was put on, None where there is none.
        wrapper: PEFT's, with it.
        rounding: What stands in for the weights in the forward pass.
    """

    model: Model
    names: tuple[str, ...]
    adapter: Adapter | None = None
    wrapper: Any = None
    rounding: Rounding | None = None


@dataclass(frozen=True)
class Lesson:
    """What is to be trained on what."""

    settings: Finetune
    model: Model
    training: PackedRows
    held_out: PackedRows
    progress: Progress

    def trainee(self) -> Trainee:
        """Copy the model and make it ready; every copy begins in the same weights."""
        settings, device = self.settings, loop.device()
        copy = on_packed_base(self.model) if settings.method == "qlora" else self.model.clone()
        copy.module.to(device)
        if settings.method == "full":
            named = loop.trainable_names(copy.module, settings.trainable)
            names = _unfrozen(_above(copy, named, settings.upper), settings.freeze)
            wanted = None if settings.rounding is None else chosen_formats(self.model, settings.rounding)
            return Trainee(copy, names, rounding=None if wanted is None else Rounding(copy, wanted))
        weights = [f"{path}.weight" for path in adapters.targets(copy, settings.targets)]
        weights = _above(copy, weights, settings.upper)
        paths = tuple(name.removesuffix(".weight") for name in _unfrozen(weights, settings.freeze))
        decomposed, alpha = settings.method == "dora", settings.scale
        adapter = Adapter(settings.rank, alpha, paths, decomposed, settings.dropout)
        require_keepable(self.model, decomposed=decomposed)
        zeros = pruned_places(copy, paths)
        wrapper = adapter.put_on(copy.module, settings.seed)
        keep_zeros(copy.module, zeros)
        names = tuple(loop.trainable_names(copy.module, (adapters.TRAINED,)))
        return Trainee(copy, names, adapter, wrapper)

    def train(
        self, trainee: Trainee, settings: loop.Training, stage: str, checkpoints: Checkpoints | None
    ) -> loop.TrainingResult:
        """Train a copy in place on all rows; it ends in the weights that were best on the held-out ones."""
        # The factors of an adapter begin with zeros of their own.
        keeps = trainee.adapter is None and trainee.model.lineage.has_pruned_weights
        return loop.train(
            trainee.model.module,
            len(self.training.ids),
            PackedLoss(trainee.model, self.training, trainee.rounding),
            replace(settings, keep_zeros=keeps),
            checkpoints=checkpoints,
            evaluate=PackedLoss(trainee.model, self.held_out, trainee.rounding).evaluate,
            progress=_renamed(self.progress, stage),
        )

    def attempt(self, rate: float, epochs: int) -> tuple[float, ...]:
        """Train a copy shortly on a few rows; return the held-out loss before and after every epoch."""
        import torch

        size = self.settings.batch_size
        order = torch.randperm(len(self.training.ids), generator=torch.Generator().manual_seed(self.settings.seed))
        few = replace(
            self, training=_some(self.training, order[: size * _sweep.BATCHES]), held_out=self._few_held_out()
        )
        trainee = few.trainee()
        per_epoch = steps_of(len(few.training.ids), 1, size)
        settings = self.settings.loop_settings(rate, per_epoch * epochs)
        settings = replace(settings, evaluate_every=per_epoch, patience=0, trainable=trainee.names)
        try:
            curves = few.train(trainee, settings, f"trying the learning rate {rate:g}", None).curves
        except InvalidInput:
            return (math.inf,) * (epochs + 1)
        return tuple(loss for _, loss in curves.held_out)

    def _few_held_out(self) -> PackedRows:
        import torch

        return _some(self.held_out, torch.arange(min(len(self.held_out.ids), _sweep.HELD_OUT_ROWS)))

    def key(self) -> str:
        """Return the hash of the settings, the model and the rows."""
        digest = hashlib.sha256(json.dumps(asdict(self.settings), sort_keys=True).encode())
        digest.update(fingerprint(self.model.module).encode())
        for name, packed in sorted(self.model.packed.items()):
            digest.update(f"{name}\0{packed.format}\0".encode() + packed.data.numpy().tobytes())
        for rows in (self.training, self.held_out):
            for each in (rows.ids, rows.supervised, rows.segments, rows.positions):
                digest.update(each.contiguous().numpy().tobytes())
        return digest.hexdigest()


def _above(model: Model, names: list[str], share: float) -> list[str]:
    """Leave out the embedding and the blocks below the upper share of them.

    Raises:
        InvalidInput: Nothing is left.
    """
    blocks = model.anatomy.blocks
    if share == 1:
        return names
    below = blocks[: len(blocks) - max(1, round(share * len(blocks)))]
    fixed = (f"{model.anatomy.embedding}.", *(f"{block.path}." for block in below))
    left = [name for name in names if not name.startswith(fixed)]
    if not left:
        raise InvalidInput(
            "Nothing of the upper blocks is to be trained.", remedy="Take a larger share, or name other weights."
        )
    return left


def _unfrozen(names: list[str], patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the names that a pattern means.

    Raises:
        InvalidInput: A pattern means none, or nothing is left.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise InvalidInput(
                f"{pattern!r} freezes nothing that would be trained.",
                remedy=f"Give a pattern of names such as {names[-1]!r}.",
            )
    left = tuple(name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    if not left:
        raise InvalidInput("Everything is frozen, so nothing is left to train.", remedy="Freeze less.")
    return left


def _some(rows: PackedRows, which: Any) -> PackedRows:
    return replace(rows, **{item.name: getattr(rows, item.name)[which] for item in fields(rows)})


def steps_of(rows: int, epochs: float, batch_size: int) -> int:
    return max(1, math.ceil(rows * epochs / batch_size))


def _renamed(progress: Progress, stage: str) -> Progress:
    def report(event: Event) -> None:
        progress(replace(event, stage=stage) if event.stage == "training" else event)

    return report
