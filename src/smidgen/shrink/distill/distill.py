"""Distillation: the student learns to answer as the teacher does."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.models.model import Model
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.distill import teachers, terms
from smidgen.shrink.distill._objective import Bench
from smidgen.shrink.distill.matching import Matching, Vocabulary, match_vocabulary
from smidgen.shrink.distill.temperature import Temperature, for_entropy
from smidgen.shrink.training import loop
from smidgen.shrink.training.checkpoints import Checkpoints, fingerprint

if TYPE_CHECKING:
    import torch

ENTROPY_TOKENS = 256


@dataclass(frozen=True)
class DistillResult:
    """What distillation made.

    Attributes:
        model: The taught student.
        curves: Losses of training and held-out rows as plain data: ``training held_out best_step stopped_early gap``.
        steps: Steps done.
        tokens: Tokens trained on, in this process.
        tokens_per_second: How fast, without evaluations.
    """

    model: Model
    curves: dict[str, Any]
    steps: int
    tokens: int
    tokens_per_second: float


@dataclass(frozen=True)
class Distill:
    """Train a student to answer as its teacher does.

    Attributes:
        steps: Optimizer steps; the clock never changes them.
        losses: Weight of each loss by its name, or a mapping of ``weight``, ``weight_end`` (that of the last step, in a
            straight line) and the loss's own options.
        learning_rate: Its peak.
        batch_size: Rows per step.
        accumulation: Parts a step's rows are computed in, for less memory.
        warmup: Share of the steps in which the rate rises.
        schedule: ``cosine``, ``linear`` or ``constant`` after it.
        temperature: Softens both distributions; the first step's where it is annealed.
        temperature_end: The last step's; None stays.
        entropy: Mean entropy in nats that the teacher's softened distributions shall have; sets the temperature
            once, before training. None: as given.
        trainable: ``all``, ``norms``, or name patterns.
        teacher: ``live``, ``cached`` or ``on_policy``.
        teacher_options: The teacher's own options, as ``{"k": 32}``.
        layer_map: The teacher's block for each of the student's, counted from 0; None: by lineage, else spread evenly.
        head_map: The teacher's query head for each of the student's, in every block; None: by lineage, else by number.
        weight_decay: Of matrices.
        seed: Of the rows' order.
        evaluate_every: Steps between looks at the held-out loss; 0: eight times in all.
        patience: Looks without improvement before training stops; 0 never stops.

    Example:
        healed = Distill(steps=200).apply(student, teacher, training, held_out)
    """

    steps: int
    losses: Mapping[str, Any] = field(default_factory=lambda: {"soft_output": 1.0})
    learning_rate: float = 1e-4
    batch_size: int = 8
    accumulation: int = 1
    warmup: float = 0.05
    schedule: str = "cosine"
    temperature: float = 1.0
    temperature_end: float | None = None
    entropy: float | None = None
    trainable: str | tuple[str, ...] = "all"
    teacher: str = "live"
    teacher_options: Mapping[str, Any] = field(default_factory=dict)
    layer_map: Mapping[int, int] | None = None
    head_map: Mapping[int, int] | None = None
    weight_decay: float = 0.0
    seed: int = 0
    evaluate_every: int = 0
    patience: int = 3

    def __post_init__(self) -> None:
        # What cannot be is said before a teacher is asked, which may take hours.
        loop.Training(**self._shared())
        Temperature(self.temperature, self.temperature_end)
        terms.read(self.losses)
        teachers.build(self.teacher, self.teacher_options)

    def apply(
        self,
        student: Model,
        teacher: Model,
        training: torch.Tensor,
        held_out: torch.Tensor,
        *,
        checkpoints: Path | None = None,
        progress: Progress = silent,
    ) -> Model:
        """Return the taught student; see `run`."""
        return self.run(student, teacher, training, held_out, checkpoints=checkpoints, progress=progress).model

    def run(
        self,
        student: Model,
        teacher: Model,
        training: torch.Tensor,
        held_out: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        checkpoints: Path | None = None,
        progress: Progress = silent,
    ) -> DistillResult:
        """Teach a copy of the student and report the curves.

        Args:
            student: Who learns; it is not changed.
            teacher: Who knows; it is not changed.
            training: The student's tokens, int64 ``[rows, length]``.
            held_out: The same, from other text; may be empty, then the last weights are kept.
            mask: Which tokens of ``training`` are learned to be predicted, bool of its shape; None: all.
            checkpoints: Folder for the state; the same call goes on there after a kill.
            progress: Receives one event per step.

        Raises:
            InvalidInput: No rows, tokens the student does not have, or a loss that stopped being a number.
            ReferenceNotFound: An unknown loss, option, teacher, schedule.
            Unsupported: Teacher and student do not fit each other.
        """
        for rows, kind in ((training, "training"), (held_out, "held-out")):
            _check_rows(student, rows, kind)
        report = _renamed(progress)
        key = self._key(student, teacher, (training, held_out, mask)) if checkpoints is not None else ""
        with ExitStack() as stack:
            bench = self._bench(student, teacher, training, checkpoints, stack)
            objective = bench.objective(training, mask, report)
            watched = bench.objective(held_out, None, report) if len(held_out) else None
            result = loop.train(
                bench.learner,
                len(training),
                objective,
                self._settings(bench),
                checkpoints=None if checkpoints is None else Checkpoints(Path(checkpoints), key),
                evaluate=None if watched is None else watched.evaluate,
                progress=report,
            )
            taught = self._finish(bench, student)
        return DistillResult(taught, result.curves.to_dict(), result.steps, result.tokens, result.tokens_per_second)

    def measure_throughput(self, student: Model, teacher: Model, training: torch.Tensor, *, steps: int = 2) -> float:
        """Return tokens per second of a few real steps, for planning how many the time allows.

        Neither model is changed. Evaluations and checkpoints come on top.

        Args:
            student: Who would learn.
            teacher: Who would teach.
            training: The student's tokens, int64 ``[rows, length]``.
            steps: Steps timed, after one for warming up.
        """
        _check_rows(student, training, "training")
        with ExitStack() as stack:
            bench = self._bench(student, teacher, training, None, stack)
            objective = bench.objective(training, None, silent)
            return loop.measure_throughput(bench.learner, len(training), objective, self._settings(bench), steps=steps)

    def _bench(
        self, student: Model, teacher: Model, training: torch.Tensor, folder: Path | None, stack: ExitStack
    ) -> Bench:
        found = self._terms(teacher, training, match_vocabulary(student, teacher))
        method = teachers.build(self.teacher, self.teacher_options)
        device = loop.device()
        copy = student.clone()
        copy.module.to(device)
        stack.enter_context(_placed(teacher.module, device))
        place = Path(folder) if folder is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        matching = Matching(copy, teacher, self.layer_map, self.head_map)
        return Bench(matching, found, method, place / "teacher", stack)

    def _terms(self, teacher: Model, training: torch.Tensor, vocabulary: Vocabulary) -> terms.Terms:
        found, start = terms.read(self.losses), self.temperature
        if self.entropy is not None:
            start = _temperature_for(self.entropy, teacher, vocabulary.asked(training[:1]))
        return terms.Terms(found, Temperature(start, self.temperature_end), self.steps)

    def _settings(self, bench: Bench) -> loop.Training:
        names = loop.trainable_names(bench.student.module, self.trainable)
        trained = (*(f"student.{name}" for name in names), "projections.*")
        keeps = bench.student.lineage.has_pruned_weights
        return loop.Training(trainable=trained, keep_zeros=keeps, **self._shared())

    def _shared(self) -> dict[str, Any]:
        """Return what the training is told as it stands here."""
        shared = {item.name for item in fields(loop.Training)} & {item.name for item in fields(self)} - {"trainable"}
        return {name: getattr(self, name) for name in shared}

    def _key(self, student: Model, teacher: Model, data: tuple[torch.Tensor | None, ...]) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode())
        for model in (student, teacher):
            digest.update(fingerprint(model.module).encode())
        for tensor in data:
            digest.update(b"none" if tensor is None else tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _finish(self, bench: Bench, student: Model) -> Model:
        """Bring the student home; bytes that were packed stay valid where their weights were not trained."""
        model = bench.student
        model.module.to(student.device)
        changed = set(loop.trainable_names(model.module, self.trainable))
        packed = {name: tensor for name, tensor in model.packed.items() if name not in changed}
        taught = replace(model, packed=packed)
        return taught.with_step("distill", **asdict(self), taught_by=bench.teacher.lineage.origin.name)


def _renamed(progress: Progress) -> Progress:
    def report(event: Event) -> None:
        progress(replace(event, stage="distilling") if event.stage == "training" else event)

    return report


def _temperature_for(entropy: float, teacher: Model, ids: torch.Tensor) -> float:
    """Find the temperature that gives the teacher this mean entropy on some of the text."""
    import torch

    with torch.no_grad():
        logits = teacher.module(input_ids=ids[:, :ENTROPY_TOKENS].to(teacher.device), use_cache=False).logits[0]
    return for_entropy(logits, entropy)


@contextmanager
def _placed(module: Any, device: torch.device) -> Iterator[None]:
    before = next(module.parameters()).device
    module.to(device)
    try:
        yield
    finally:
        module.to(before)


def _check_rows(student: Model, rows: torch.Tensor, kind: str) -> None:
    """Refuse token rows that the student cannot read; no held-out rows at all is allowed."""
    if kind == "held-out" and len(rows) == 0:
        return
    if rows.dim() != 2 or rows.shape[0] < 1 or rows.shape[1] < 2:
        raise InvalidInput(
            f"Distillation needs {kind} tokens of the shape [rows, length], not {list(rows.shape)}.",
            remedy="Give more text.",
        )
    size = student.anatomy.vocabulary_size
    lowest, highest = int(rows.min()), int(rows.max())
    if lowest < 0 or highest >= size:
        raise InvalidInput(
            f"The {kind} text holds the token id {lowest if lowest < 0 else highest}, and the student knows {size:,}.",
            remedy="Encode the text with the student's own tokenizer.",
        )
