"""Fine-tuning: the model learns from examples or plain text."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.files import make_folder
from smidgen.models.model import Model
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.finetune import _sweep, adapters, objectives
from smidgen.shrink.finetune._loss import PackedLoss
from smidgen.shrink.finetune._packed import on_packed_base
from smidgen.shrink.finetune._rounding import Rounding, chosen_formats
from smidgen.shrink.finetune.adapters import Adapter
from smidgen.shrink.training import loop
from smidgen.shrink.training.checkpoints import Checkpoints, fingerprint

if TYPE_CHECKING:
    from smidgen.data.packing import PackedRows
    from smidgen.data.rows import Corpus

LOOKS = 8
"""Fewest looks at the held-out loss in a training; with more than two epochs there are four in each."""


@dataclass(frozen=True)
class FinetuneResult:
    """What fine-tuning made.

    Attributes:
        model: The trained model, an adapter worked into its weights.
        curves: As plain data: ``training held_out best_step stopped_early gap`` and ``learning_rate epochs sweep``.
        steps: Steps done.
        tokens: Targets trained on, in this process.
        tokens_per_second: How fast, without evaluations.
        adapter: What was trained on top of the model, None where its own weights were.
    """

    model: Model
    curves: dict[str, Any]
    steps: int
    tokens: int
    tokens_per_second: float
    adapter: Adapter | None = None


@dataclass(frozen=True)
class Finetune:
    """Train a model on examples or plain text.

    Attributes:
        objective: ``supervised``, ``unsupervised`` or ``self_supervised``.
        options: The objective's own options.
        method: ``full`` trains the weights; ``lora``, ``dora`` an adapter; ``qlora`` one on a quantized base.
        rank: Of the adapter.
        alpha: Of the adapter; twice the rank where None.
        dropout: Of the adapter's inputs.
        targets: Layers with an adapter: ``all``, ``attention``, ``mlp``, or path patterns.
        trainable: Without an adapter, what is trained: ``all``, ``norms``, or name patterns.
        freeze: Name patterns of weights that stay as they are, with or without an adapter.
        rounding: Number format that every matrix is rounded to in the forward pass and stored in at the end
            (quantization-aware), or ``stored`` for the formats it has; None: no rounding.
        learning_rate: Its peak; found by short trials where None.
        epochs: Times the data are read; found with the rate where None.
        steps: Optimizer steps, instead of epochs.
        batch_size: Rows per step.
        accumulation: Parts a step's rows are computed in, for less memory.
        warmup: Share of the steps in which the rate rises.
        schedule: ``cosine``, ``linear`` or ``constant`` after it.
        weight_decay: Of matrices.
        length: Tokens per row; documents share rows and do not see each other.
        seed: Of the rows' order and everything random.
        evaluate_every: Steps between looks at the held-out loss; 0: at least eight times in all.
        patience: Looks without improvement before training stops; 0 never stops.

    Example:
        tuned = Finetune(method="lora").apply(model, training, held_out)
    """

    objective: str = "supervised"
    options: Mapping[str, Any] = field(default_factory=dict)
    method: str = "full"
    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all"
    trainable: str | tuple[str, ...] = "all"
    freeze: tuple[str, ...] = ()
    rounding: str | None = None
    learning_rate: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 8
    accumulation: int = 1
    warmup: float = 0.05
    schedule: str = "cosine"
    weight_decay: float = 0.0
    length: int = 256
    seed: int = 0
    evaluate_every: int = 0
    patience: int = 3

    def __post_init__(self) -> None:
        if self.method not in adapters.METHODS:
            raise ReferenceNotFound.among("method", self.method, adapters.METHODS)
        if self.steps is not None and self.epochs is not None:
            raise InvalidInput("Fine-tuning takes either steps or epochs, not both.")
        if self.epochs is not None and not 0 < self.epochs < math.inf:
            raise InvalidInput(f"Epochs must be above 0, not {self.epochs}.")
        if self.rounding is not None and self.method != "full":
            raise InvalidInput(
                f"Rounding in the forward pass trains the weights themselves, and {self.method} keeps them.",
                remedy="Take --method full, or qlora on a quantized base without --rounding.",
            )
        objectives.build(self.objective, dict(self.options))
        Adapter(self.rank, self._alpha, (), dropout=self.dropout)
        self._training(self.learning_rate or 1.0, self.steps or 1)

    @property
    def _alpha(self) -> float:
        return 2.0 * self.rank if self.alpha is None else float(self.alpha)

    def apply(
        self,
        model: Model,
        training: Corpus,
        held_out: Corpus,
        *,
        checkpoints: Path | None = None,
        progress: Progress = silent,
    ) -> Model:
        """Return the trained model; see `run`."""
        return self.run(model, training, held_out, checkpoints=checkpoints, progress=progress).model

    def run(
        self,
        model: Model,
        training: Corpus,
        held_out: Corpus,
        *,
        checkpoints: Path | None = None,
        progress: Progress = silent,
    ) -> FinetuneResult:
        """Train a copy of a model and report the curves.

        Args:
            model: It is not changed.
            training: What it learns from.
            held_out: Of the same kind, for the choice of rate and epochs and the watch for overfitting; it is not
                trained on.
            checkpoints: Folder for the state; the same call goes on there after a kill.
            progress: Receives one event per step.

        Raises:
            InvalidInput: The data do not fit the objective, or nothing is to be trained.
            ReferenceNotFound: An unknown number format.
        """
        lesson = _Lesson(self, model, self._rows(model, training), self._rows(model, held_out), progress)
        key = lesson.key() if checkpoints is not None else ""
        folder = None if checkpoints is None else make_folder(Path(checkpoints))
        rate, epochs, trials = self._chosen(lesson, _sweep.Notes(folder and folder / "sweep.json", key))
        steps = self.steps or _steps(len(lesson.training.ids), epochs, self.batch_size)
        trainee = lesson.trainee()
        settings = replace(self._training(rate, steps, epochs), trainable=trainee.names)
        state = None if folder is None else Checkpoints(folder, key)
        result = lesson.train(trainee, settings, "fine-tuning", state)
        curves = result.curves.to_dict()
        facts = {"learning_rate": rate, "epochs": epochs, "sweep": [trial.to_dict() for trial in trials]}
        trained, adapter = self._finished(model, trainee)
        done = {**asdict(self), "learning_rate": rate, "epochs": epochs, "steps": result.steps, **_overfitting(curves)}
        made = trained.with_step("finetune", **done)
        return FinetuneResult(made, curves | facts, result.steps, result.tokens, result.tokens_per_second, adapter)

    def _rows(self, model: Model, corpus: Corpus) -> PackedRows:
        objective = objectives.build(self.objective, dict(self.options))
        length = min(self.length, model.anatomy.context_length)
        return objectives.pack(objective, corpus, model.tokenizer, length=length, seed=self.seed)

    def _training(self, rate: float, steps: int, epochs: float = 1) -> loop.Training:
        looks = max(LOOKS, round(4 * epochs)) if epochs > 2 else LOOKS
        between = self.evaluate_every or math.ceil(steps / looks)
        shared = {item.name for item in fields(loop.Training)} & {item.name for item in fields(self)}
        values = {name: getattr(self, name) for name in shared - {"steps", "learning_rate", "trainable"}}
        return loop.Training(steps=steps, learning_rate=rate, **values | {"evaluate_every": between})

    def _chosen(self, lesson: _Lesson, notes: _sweep.Notes) -> tuple[float, float, list[_sweep.Trial]]:
        """Return learning rate, epochs and the trials that found those of them that were not given."""
        rows = len(lesson.training.ids)
        given = self.epochs if self.steps is None else self.steps * self.batch_size / rows
        if self.learning_rate is not None and given is not None:
            return self.learning_rate, given, []
        epochs = _sweep.MOST_EPOCHS if given is None else max(1, min(_sweep.MOST_EPOCHS, round(given)))
        attempt = notes.remembering(lambda rate: lesson.attempt(rate, epochs))
        if self.learning_rate is not None:
            trials = [_sweep.Trial(self.learning_rate, attempt(self.learning_rate))]
        else:
            start = _sweep.STARTS["full" if self.method == "full" else "adapter"]
            trials = _sweep.climb(attempt, start)
        return trials[0].learning_rate, trials[0].epochs if given is None else given, trials

    def _finished(self, model: Model, trainee: _Trainee) -> tuple[Model, Adapter | None]:
        """Bring the result home; bytes that were packed stay valid where their weights were not trained."""
        if trainee.adapter is not None:
            adapter = trainee.adapter.taken_from(trainee.wrapper)
            return adapter.merged(model), adapter
        trainee.model.module.to(model.device)
        if trainee.rounding is not None:
            return trainee.rounding.stored(), None
        changed = {*trainee.names}
        packed = {name: each for name, each in trainee.model.packed.items() if name not in changed}
        return replace(trainee.model, packed=packed), None


@dataclass(frozen=True)
class _Trainee:
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
class _Lesson:
    """What is to be trained on what."""

    settings: Finetune
    model: Model
    training: PackedRows
    held_out: PackedRows
    progress: Progress

    def trainee(self) -> _Trainee:
        """Copy the model and make it ready; every copy begins in the same weights."""
        settings, device = self.settings, loop.device()
        copy = on_packed_base(self.model) if settings.method == "qlora" else self.model.clone()
        copy.module.to(device)
        if settings.method == "full":
            names = _unfrozen(loop.trainable_names(copy.module, settings.trainable), settings.freeze)
            wanted = None if settings.rounding is None else chosen_formats(self.model, settings.rounding)
            return _Trainee(copy, names, rounding=None if wanted is None else Rounding(copy, wanted))
        weights = [f"{path}.weight" for path in adapters.targets(copy, settings.targets)]
        paths = tuple(name.removesuffix(".weight") for name in _unfrozen(weights, settings.freeze))
        decomposed, alpha = settings.method == "dora", settings._alpha
        adapter = Adapter(settings.rank, alpha, paths, decomposed, settings.dropout)
        wrapper = adapter.put_on(copy.module, settings.seed)
        names = tuple(loop.trainable_names(copy.module, (adapters.TRAINED,)))
        return _Trainee(copy, names, adapter, wrapper)

    def train(
        self, trainee: _Trainee, settings: loop.Training, stage: str, checkpoints: Checkpoints | None
    ) -> loop.TrainingResult:
        """Train a copy in place on all rows; it ends in the weights that were best on the held-out ones."""
        return loop.train(
            trainee.model.module,
            len(self.training.ids),
            PackedLoss(trainee.model, self.training, trainee.rounding),
            settings,
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
        per_epoch = _steps(len(few.training.ids), 1, size)
        settings = self.settings._training(rate, per_epoch * epochs)
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
            for each in (rows.ids, rows.supervised, rows.positions):
                digest.update(each.contiguous().numpy().tobytes())
        return digest.hexdigest()


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


def _steps(rows: int, epochs: float, batch_size: int) -> int:
    return max(1, math.ceil(rows * epochs / batch_size))


def _renamed(progress: Progress, stage: str) -> Progress:
    def report(event: Event) -> None:
        progress(replace(event, stage=stage) if event.stage == "training" else event)

    return report


def _overfitting(curves: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the lineage keeps of the curves."""
    held_out = dict(map(tuple, curves["held_out"]))
    best = curves["best_step"]
    return {
        "held_out_before": held_out.get(0),
        "held_out_best": held_out.get(best),
        "best_step": best,
        "gap": curves["gap"],
        "stopped_early": curves["stopped_early"],
    }
