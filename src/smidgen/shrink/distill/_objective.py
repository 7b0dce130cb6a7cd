"""The distillation loss of some rows: student and teacher read them, every loss compares, the weighted sum counts."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import Unsupported
from smidgen.models.model import Model
from smidgen.progress import Progress
from smidgen.shrink.distill._slopes import Head, by_embedding, slopes_at
from smidgen.shrink.distill.losses import Chunk, GradientLoss, Pair, PartLoss
from smidgen.shrink.distill.matching import Matching, match_vocabulary
from smidgen.shrink.distill.teachers import Answering, Answers, Lesson, Teacher, plain_attention, watching, without_last
from smidgen.shrink.distill.terms import Terms, Weights
from smidgen.shrink.precision import working_type
from smidgen.shrink.training.head import mean_through_head
from smidgen.shrink.training.schedule import seed_of

if TYPE_CHECKING:
    import torch

GIVEN = {"outputs": "next-token distributions", "parts": "hidden states or attention", "gradient": "gradients"}


class Bench:
    """Student and teacher side by side.

    Args:
        matching: Who learns from whom; the student's module is trained in place.
        terms: What is summed.
        method: How the teacher is asked.
        folder: Where a teacher may keep answers.
        stack: Closes what is opened here.
    """

    def __init__(self, matching: Matching, terms: Terms, method: Teacher, folder: Path, stack: ExitStack) -> None:
        import torch

        self.student, self.teacher = matching.student, matching.teacher
        self.terms, self.method, self.folder, self.stack = terms, method, folder, stack
        _require_fitting(terms, method, (self.student.anatomy.hidden_size, self.teacher.anatomy.hidden_size))
        self.vocabulary = match_vocabulary(self.student, self.teacher)
        self.pairs: list[list[Pair]] = [
            term.loss.pairs(matching) for term in terms.terms if isinstance(term.loss, PartLoss)
        ]
        self.dtype = working_type() if self.student.device.type == "cpu" else torch.bfloat16
        self.slopes = "gradient" in terms.asks
        stack.enter_context(plain_attention(self.student.module, terms.reads_maps or self.slopes))
        self.learner = self._learner()

    def watched(self, side: int) -> tuple[str, ...]:
        """Return the paths that are watched of the student (0) or the teacher (1)."""
        return tuple(dict.fromkeys(pair[side].path for pairs in self.pairs for pair in pairs))

    def _learner(self) -> Any:
        """Join the student and the projections that are learned beside it into one module."""
        import torch

        widths = self.student.anatomy.hidden_size, self.teacher.anatomy.hidden_size
        learner = torch.nn.Module()
        learner.student = self.student.module
        learner.projections = torch.nn.ModuleList()
        generator = torch.Generator().manual_seed(0)
        losses = [term.loss for term in self.terms.terms if isinstance(term.loss, PartLoss)]
        for loss, pairs in zip(losses, self.pairs, strict=True):
            own = torch.nn.ModuleList()
            for _ in pairs if loss.projected and widths[0] != widths[1] else ():
                layer = torch.nn.Linear(*widths, bias=False, device=self.student.device)
                start = torch.randn(widths[1], widths[0], generator=generator) / widths[0] ** 0.5
                layer.weight.data.copy_(start)
                own.append(layer)
            learner.projections.append(own)
        return learner

    def objective(self, ids: torch.Tensor, mask: torch.Tensor | None, progress: Progress) -> Objective:
        """Open the teacher for rows of the student's tokens ``[rows, length]`` and return their loss."""
        ids = ids.cpu()
        lesson = Lesson(
            self.teacher,
            ids,
            self.vocabulary,
            self.folder,
            self.dtype,
            student=self.student,
            watched=self.watched(1),
            maps=self.terms.reads_maps,
            slopes=self.slopes,
            progress=progress,
        )
        answering = self.stack.enter_context(self.method.open(lesson)) if self.terms.asks else None
        return Objective(self, ids, mask, answering)


def _require_fitting(terms: Terms, method: Teacher, widths: tuple[int, int]) -> None:
    """Refuse losses that this teacher, or these widths, cannot serve."""
    for asked in sorted(terms.asks - method.answers):
        names = [type(term.loss).__name__ for term in terms.terms if term.loss.asks == asked]
        raise Unsupported(
            f"A teacher of the kind {type(method).__name__} gives no {GIVEN[asked]}, which the loss {names[0]} needs.",
            remedy="Use the live teacher, or leave out that loss.",
        )
    for term in terms.terms:
        if term.loss.asks == "nothing" and not method.follows_text:
            raise Unsupported(
                f"The loss {type(term.loss).__name__} teaches the data's words, and on-policy rows are the student's.",
                remedy="Use the live or the cached teacher, or leave out that loss.",
            )
        if isinstance(term.loss, GradientLoss) and not term.loss.directions and widths[0] != widths[1]:
            raise Unsupported(
                f"Slopes of widths {widths[0]} and {widths[1]} cannot be compared as a whole.",
                remedy="Give the loss gradient some directions, such as {weight: 1, directions: 8}.",
            )


@dataclass(frozen=True)
class Reading:
    """What the student computed of a batch.

    Attributes:
        ids: Its tokens, ``[rows, length]``.
        which: Numbers of the tokens that count, counted without the last of every row.
        hidden: What the head reads of them, ``[tokens, hidden]``.
        seen: What the watched parts returned, by path.
        embedded: What the token embedding gave; None where no slopes are wanted.
    """

    ids: torch.Tensor
    which: torch.Tensor
    hidden: torch.Tensor
    seen: dict[str, Any]
    embedded: torch.Tensor | None

    @property
    def targets(self) -> torch.Tensor:
        """Next tokens of the tokens that count."""
        return self.ids[:, 1:].reshape(-1)[self.which]


class Objective:
    """The loss of some rows; callable as the loop wants it."""

    def __init__(self, bench: Bench, ids: torch.Tensor, mask: torch.Tensor | None, answering: Answering | None) -> None:
        self.bench, self.ids, self.mask, self.answering = bench, ids, mask, answering
        columns = bench.vocabulary.columns
        self.columns = None if columns is None else columns.to(bench.student.device)

    def __call__(self, learner: Any, rows: torch.Tensor, step: int) -> tuple[torch.Tensor, int]:
        """Return the mean loss of the rows' tokens and their count."""
        return self.at(rows, self.bench.terms.temperature.at(step, self.bench.terms.steps), step)

    def evaluate(self, learner: Any) -> float:
        """Return the mean loss of all rows at temperature 1 with the last step's weights, four rows at a time."""
        import torch

        total, count = 0.0, 0
        for rows in torch.split(torch.arange(len(self.ids)), 4):
            mean, tokens = self.at(rows, 1.0)
            total, count = total + float(mean) * tokens, count + tokens
        return total / max(1, count)

    def at(self, rows: torch.Tensor, temperature: float, step: int | None = None) -> tuple[torch.Tensor, int]:
        """Return mean loss and count of tokens of these rows.

        Args:
            rows: Their numbers, int64 ``[batch]``.
            temperature: Softens both distributions.
            step: Of the training; None: on the data's own text, with the last step's weights.
        """
        device = self.bench.student.device
        ids = self.ids[rows].to(device)
        mask = None if self.mask is None else self.mask[rows]
        if step is not None and self.answering is not None:
            ids, mask = self.answering.text(ids, mask)
        weights = self.bench.terms.weights(step)
        reading = self._read(ids, mask)
        answers = None if self.answering is None else self.answering.answers(ids, rows)
        loss = self._outputs(weights, reading, answers, temperature)
        if answers is not None and len(reading.which):
            loss = loss + self._parts(weights, reading, answers)
            for one, weight in weights.gradients:
                loss = loss + weight * self._gradient(one, reading, answers, step)
        return loss, len(reading.which)

    def _read(self, ids: torch.Tensor, mask: torch.Tensor | None) -> Reading:
        import torch

        bench, module = self.bench, self.bench.student.module
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled() or bench.slopes))
            seen = stack.enter_context(watching(module, bench.watched(0)))
            path = bench.student.anatomy.embedding
            marked = stack.enter_context(slopes_at(module, path)) if bench.slopes else [None]
            read = without_last(module.base_model(input_ids=ids, use_cache=False).last_hidden_state)
            which = torch.arange(len(read), device=ids.device)
            if mask is not None:
                which = mask[:, 1:].reshape(-1).nonzero().flatten().to(ids.device)
                read = read[which]
        return Reading(ids, which, read, seen, marked[0])

    def _outputs(self, weights: Weights, reading: Reading, answers: Answers | None, temperature: float) -> torch.Tensor:
        terms, model = weights.outputs, self.bench.student
        if not terms:
            return reading.hidden.sum() * 0
        asked = answers is not None and any(loss.asks == "outputs" for loss, _ in terms)
        targets, anatomy = reading.targets, model.anatomy

        def per_token(logits: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            theirs = answers.chunk(reading.which[start:stop]) if answers is not None and asked else None
            chunk = Chunk(targets[start:stop], theirs, self.columns, temperature)
            finished = anatomy.logits(logits)
            parts = [weight * loss.per_token(finished, chunk) for loss, weight in terms]
            return sum(parts[1:], parts[0])

        head = model.module.get_submodule(anatomy.head)
        return mean_through_head(reading.hidden, head, per_token, dtype=self.bench.dtype)

    def _parts(self, weights: Weights, reading: Reading, answers: Answers) -> torch.Tensor:
        """Mean over tokens and pairs of every loss of parts, weighted."""
        import torch

        total = reading.hidden.new_zeros((), dtype=torch.float32)
        places = zip(weights.parts, self.bench.pairs, self.bench.learner.projections, strict=True)
        for (loss, weight), pairs, projections in places:
            found = []
            for number, (mine, theirs) in enumerate(pairs if weight else ()):
                values = without_last(mine.read(reading.seen[mine.path]))[reading.which].float()
                wanted = without_last(theirs.read(answers.seen[theirs.path]))[reading.which].float()
                values = projections[number](values).float() if len(projections) else values
                found.append(loss.per_token(values, wanted).mean())
            total = total + weight * torch.stack(found).mean() if found else total
        return total

    def _gradient(self, loss: GradientLoss, reading: Reading, answers: Answers, step: int | None) -> torch.Tensor:
        """Mean over rows of the distance between the slopes."""
        import torch

        model, vocabulary = self.bench.student, self.bench.vocabulary
        layer, embedded = model.module.get_submodule(model.anatomy.head), reading.embedded
        assert embedded is not None
        head = Head(layer.weight, layer.bias, model.anatomy.logits, self.bench.dtype)
        twice = torch.is_grad_enabled()
        with torch.enable_grad():
            mine = by_embedding(embedded, reading.hidden, reading.targets, head, twice=twice)
        there, theirs = answers.slopes(reading.which)
        if loss.directions:
            seed = torch.Generator().manual_seed(seed_of(0, -1 if step is None else step))
            shape = (loss.directions, *reading.ids.shape)
            known = torch.arange(len(layer.weight)) if vocabulary.columns is None else vocabulary.columns
            others = known[torch.randint(len(known), shape, generator=seed)]
            mine = _along(mine, embedded, model, others)
            theirs = _along(theirs, there, self.bench.teacher, vocabulary.asked(others))
        return loss.per_row(mine, theirs).mean()


def _along(slopes: torch.Tensor, embedded: torch.Tensor, model: Model, others: torch.Tensor) -> torch.Tensor:
    """Project slopes on the ways from every embedding to those of other tokens.

    Args:
        slopes: ``[rows, length, width]``.
        embedded: Where they were taken, of that shape.
        model: Whose they are.
        others: The other tokens in the model's ids, ``[directions, rows, length]``.

    Returns:
        ``[rows, length, directions]``.
    """
    import torch

    table = model.module.get_submodule(model.anatomy.embedding)
    found = []
    for tokens in others:
        with torch.no_grad():
            way = (table(tokens.to(slopes.device)) - embedded).float()
        found.append((slopes * way).sum(-1))
    return torch.stack(found, -1)
