"""Fine-tuning: the model learns from examples or plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.files import make_folder
from smidgen.models.model import Model
from smidgen.progress import Progress, silent
from smidgen.shrink.finetune import _sweep, adapters, objectives
from smidgen.shrink.finetune._lesson import Lesson, Trainee, steps_of
from smidgen.shrink.finetune.adapters import Adapter
from smidgen.shrink.training import loop
from smidgen.shrink.training.checkpoints import Checkpoints

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
        upper: Share of the blocks, from the last, that is trained, with or without an adapter; those below and the
            embedding are only read, which takes less time and memory.
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
    upper: float = 1.0
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
        if not 0 < self.upper <= 1:
            raise InvalidInput(
                f"The share of the blocks that is trained must be above 0 and at most 1, not {self.upper}."
            )
        if self.rounding is not None and self.method != "full":
            raise InvalidInput(
                f"Rounding in the forward pass trains the weights themselves, and {self.method} keeps them.",
                remedy="Take --method full, or qlora on a quantized base without --rounding.",
            )
        objectives.build(self.objective, dict(self.options))
        Adapter(self.rank, self.scale, (), dropout=self.dropout)
        self.loop_settings(
            1.0 if self.learning_rate is None else self.learning_rate, 1 if self.steps is None else self.steps
        )

    @property
    def scale(self) -> float:
        """The adapter's alpha."""
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
        lesson = Lesson(self, model, self._rows(model, training), self._rows(model, held_out), progress)
        key = lesson.key() if checkpoints is not None else ""
        folder = None if checkpoints is None else make_folder(Path(checkpoints))
        rate, epochs, trials = self._chosen(lesson, _sweep.Notes(folder and folder / "sweep.json", key))
        steps = self.steps or steps_of(len(lesson.training.ids), epochs, self.batch_size)
        trainee = lesson.trainee()
        settings = replace(self.loop_settings(rate, steps, epochs), trainable=trainee.names)
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
        # A window counts the tokens between two places of a row, which a shared beginning puts farther apart.
        window = getattr(model.module.config.get_text_config(), "sliding_window", None)
        share = window is None or length <= window
        return objectives.pack(objective, corpus, model.tokenizer, length=length, seed=self.seed, share=share)

    def loop_settings(self, rate: float, steps: int, epochs: float = 1) -> loop.Training:
        """Return how the loop is to train; what is trained is yet to be said."""
        looks = max(LOOKS, round(4 * epochs)) if epochs > 2 else LOOKS
        between = self.evaluate_every or math.ceil(steps / looks)
        shared = {item.name for item in fields(loop.Training)} & {item.name for item in fields(self)}
        values = {name: getattr(self, name) for name in shared - {"steps", "learning_rate", "trainable"}}
        return loop.Training(steps=steps, learning_rate=rate, **values | {"evaluate_every": between})

    def _chosen(self, lesson: Lesson, notes: _sweep.Notes) -> tuple[float, float, list[_sweep.Trial]]:
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

    def _finished(self, model: Model, trainee: Trainee) -> tuple[Model, Adapter | None]:
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
