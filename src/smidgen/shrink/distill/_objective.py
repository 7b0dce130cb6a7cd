"""The distillation loss of some rows: student and teacher read them, every loss compares, the weighted sum counts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import Unsupported
from smidgen.models.model import Model
from smidgen.progress import Progress
from smidgen.shrink.distill.losses import Chunk, Loss, OutputLoss, StateLoss
from smidgen.shrink.distill.matching import match_blocks, match_vocabulary
from smidgen.shrink.distill.teachers import Answering, Answers, Lesson, Teacher, watching, without_last
from smidgen.shrink.distill.temperature import Temperature
from smidgen.shrink.precision import working_type
from smidgen.shrink.training.head import mean_through_head

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Terms:
    """What is summed.

    Attributes:
        losses: Each loss with its weight.
        temperature: Per step.
        steps: Steps in all.
    """

    losses: tuple[tuple[Loss, float], ...]
    temperature: Temperature
    steps: int

    @property
    def needs_states(self) -> bool:
        """Whether hidden states are compared."""
        return any(isinstance(loss, StateLoss) for loss, _ in self.losses)

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher is asked at all."""
        return any(loss.needs_teacher for loss, _ in self.losses)


class Bench:
    """Student and teacher side by side.

    Args:
        student: Who learns; its module is trained in place.
        teacher: Who knows.
        terms: What is summed.
        method: How the teacher is asked.
        folder: Where a teacher may keep answers.
        stack: Closes what is opened here.
    """

    def __init__(
        self, student: Model, teacher: Model, terms: Terms, method: Teacher, folder: Path, stack: ExitStack
    ) -> None:
        import torch

        if terms.needs_states and not method.gives_states:
            raise Unsupported(
                "A cached teacher keeps no hidden states.",
                remedy="Use the live teacher, or leave out the loss 'hidden'.",
            )
        self.student, self.teacher, self.terms, self.method = student, teacher, terms, method
        self.folder, self.stack = folder, stack
        self.vocabulary = match_vocabulary(student, teacher)
        self.blocks = match_blocks(student, teacher) if terms.needs_states else []
        self.dtype = working_type() if student.device.type == "cpu" else torch.bfloat16
        self.learner = _learner(student, teacher, len(self.blocks))

    def objective(self, ids: torch.Tensor, mask: torch.Tensor | None, progress: Progress) -> Objective:
        """Open the teacher for rows of the student's tokens ``[rows, length]`` and return their loss."""
        ids = ids.cpu()
        wanted = tuple(dict.fromkeys(theirs for _, theirs in self.blocks))
        lesson = Lesson(self.teacher, ids, self.vocabulary, wanted, self.folder, self.dtype, progress)
        answering = self.stack.enter_context(self.method.open(lesson)) if self.terms.needs_teacher else None
        return Objective(self, ids, mask, answering)


class Objective:
    """The loss of some rows; callable as the loop wants it."""

    def __init__(self, bench: Bench, ids: torch.Tensor, mask: torch.Tensor | None, answering: Answering | None) -> None:
        self.bench, self.ids, self.mask, self.answering = bench, ids, mask, answering
        columns = bench.vocabulary.columns
        self.columns = None if columns is None else columns.to(bench.student.device)

    def __call__(self, learner: Any, rows: torch.Tensor, step: int) -> tuple[torch.Tensor, int]:
        """Return the mean loss of the rows' tokens and their count."""
        return self.at(rows, self.bench.terms.temperature.at(step, self.bench.terms.steps))

    def evaluate(self, learner: Any) -> float:
        """Return the mean loss of all rows at temperature 1, four rows at a time."""
        import torch

        total, count = 0.0, 0
        for rows in torch.split(torch.arange(len(self.ids)), 4):
            mean, tokens = self.at(rows, 1.0)
            total, count = total + float(mean) * tokens, count + tokens
        return total / max(1, count)

    def at(self, rows: torch.Tensor, temperature: float) -> tuple[torch.Tensor, int]:
        """Return mean loss and count of tokens of these rows at a temperature."""
        import torch

        student = self.bench.student
        ids = self.ids[rows].to(student.device)
        mine = tuple(path for path, _ in self.bench.blocks)
        with watching(student.module, mine) as states:
            hidden = student.module.base_model(input_ids=ids, use_cache=False).last_hidden_state
        answers = None if self.answering is None else self.answering.answers(rows)
        targets = ids[:, 1:].reshape(-1)
        read, which = without_last(hidden), torch.arange(len(targets), device=ids.device)
        if self.mask is not None:
            which = self.mask[rows][:, 1:].reshape(-1).nonzero().flatten().to(ids.device)
            read = read[which]
        loss = self._outputs(read, targets, which, answers, temperature)
        for one, weight in self.bench.terms.losses:
            if isinstance(one, StateLoss) and answers is not None and len(which):
                loss = loss + weight * self._states(one, states, answers.states, which)
        return loss, len(which)

    def _outputs(
        self,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        which: torch.Tensor,
        answers: Answers | None,
        temperature: float,
    ) -> torch.Tensor:
        terms = [(loss, weight) for loss, weight in self.bench.terms.losses if isinstance(loss, OutputLoss)]
        if not terms:
            return hidden.sum() * 0
        asked = answers is not None and any(loss.needs_teacher for loss, _ in terms)

        model = self.bench.student
        anatomy = model.anatomy

        def per_token(scores: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            tokens, logits = which[start:stop], anatomy.logits(scores)
            theirs = answers.chunk(tokens) if answers is not None and asked else None
            chunk = Chunk(targets[tokens], theirs, self.columns, temperature)
            parts = [weight * loss.per_token(logits, chunk) for loss, weight in terms]
            return sum(parts[1:], parts[0])

        head = model.module.get_submodule(anatomy.head)
        return mean_through_head(hidden, head, per_token, dtype=self.bench.dtype)

    def _states(
        self, loss: StateLoss, mine: list[torch.Tensor], theirs: list[torch.Tensor], which: torch.Tensor
    ) -> torch.Tensor:
        """Mean over tokens and matched blocks."""
        import torch

        order = {path: index for index, path in enumerate(dict.fromkeys(path for _, path in self.bench.blocks))}
        projections = self.bench.learner.projections
        parts = []
        for index, (state, (_, path)) in enumerate(zip(mine, self.bench.blocks, strict=True)):
            values = without_last(state)[which].float()
            if projections:
                values = projections[index](values).float()
            parts.append(loss.per_token(values, theirs[order[path]][which]).mean())
        return torch.stack(parts).mean()


def _learner(student: Model, teacher: Model, blocks: int) -> Any:
    """Join the student and the projections that are learned beside it into one module."""
    import torch

    widths = student.anatomy.hidden_size, teacher.anatomy.hidden_size
    learner = torch.nn.Module()
    learner.student = student.module
    learner.projections = torch.nn.ModuleList()
    if widths[0] != widths[1]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(blocks):
            layer = torch.nn.Linear(*widths, bias=False, device=student.device)
            start = torch.randn(widths[1], widths[0], generator=generator) / widths[0] ** 0.5
            layer.weight.data.copy_(start)
            learner.projections.append(layer)
    return learner


def weighted(losses: Mapping[str, Any]) -> dict[str, tuple[float, dict[str, Any]]]:
    """Read weights and options: ``{"hidden": {"weight": 0.1, "measure": "mse"}}`` or ``{"hidden": 0.1}``."""
    found = {}
    for name, value in losses.items():
        options = dict(value) if isinstance(value, Mapping) else {"weight": value}
        found[name] = (float(options.pop("weight", 1.0)), options)
    return found
