"""The teacher runs beside the student."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.shrink.distill._slopes import Head, by_embedding, slopes_at
from smidgen.shrink.distill.teachers import (
    Answering,
    Answers,
    Lesson,
    Teacher,
    plain_attention,
    watching,
    without_last,
)
from smidgen.shrink.precision import autocast, exact
from smidgen.shrink.training.loop import narrow_frozen

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Live(Teacher):
    """Compute the teacher's answers anew for every batch: no disk, full distributions, hidden states too.

    Formula: logits = head(body(tokens)), restricted to shared tokens. Costs one forward pass of the teacher per
    token, about a quarter of a step where both have one size. Source: Hinton 2015, arXiv 1503.02531.

    Example:
        >>> sorted(Live().answers)
        ['gradient', 'outputs', 'parts']
    """

    answers: ClassVar[frozenset[str]] = frozenset({"outputs", "parts", "gradient"})

    @contextmanager
    def open(self, lesson: Lesson) -> Iterator[LiveAnswering]:
        """Hold the teacher's matrices in the type that multiplies fastest, until closed."""
        module, training = lesson.teacher.module, lesson.teacher.module.training
        parameters = dict(module.named_parameters())
        module.eval()
        held = narrow_frozen(module, lambda _: True)
        try:
            with plain_attention(module, lesson.maps):
                yield LiveAnswering(lesson)
        finally:
            for name, value in held.items():
                parameters[name].data = value
            module.train(training)


class LiveAnswering(Answering):
    """The open teacher."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson, self.body = lesson, lesson.teacher.module.base_model
        self.device: torch.device = lesson.teacher.device

    @cached_property
    def columns(self) -> torch.Tensor | None:
        """The place of each of the teacher's tokens among the shared ones; None where all are shared."""
        import torch

        rows = self.lesson.vocabulary.rows()
        if rows is None:
            return None
        columns = torch.full((len(self._matrix.weight),), -1, device=self.device)
        columns[rows.to(self.device)] = torch.arange(len(rows), device=self.device)
        return columns

    @cached_property
    def head(self) -> Head:
        """The teacher's head over the shared tokens; towers that read images have none, and nobody asks for it."""
        lesson, rows = self.lesson, self.lesson.vocabulary.rows()
        weight, bias = self._matrix.weight.detach(), self._matrix.bias
        bias = None if bias is None else bias.detach()
        if rows is not None:
            rows = rows.to(self.device)
            weight, bias = weight[rows], None if bias is None else bias[rows]
        return Head(weight.to(lesson.dtype), bias, lesson.teacher.anatomy.logits, lesson.dtype)

    @property
    def _matrix(self) -> Any:
        return self.lesson.teacher.module.get_submodule(self.lesson.teacher.anatomy.head)

    def answers(self, ids: torch.Tensor, rows: torch.Tensor) -> LiveAnswers:
        """Run the teacher's body over these tokens."""
        import torch

        lesson = self.lesson
        asked = lesson.vocabulary.asked(ids.cpu()).to(self.device)
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(lesson.slopes))
            stack.enter_context(autocast(self.device.type))
            seen = stack.enter_context(watching(lesson.teacher.module, lesson.watched))
            path = lesson.teacher.anatomy.embedding
            marked = stack.enter_context(slopes_at(lesson.teacher.module, path)) if lesson.slopes else []
            hidden = self.body(input_ids=asked, use_cache=False).last_hidden_state
            return LiveAnswers(self, without_last(hidden), seen, (asked, *marked))


class LiveAnswers(Answers):
    """What the teacher's body computed of a batch; the head is applied to the tokens that are asked for."""

    def __init__(
        self, teacher: LiveAnswering, hidden: torch.Tensor, seen: dict[str, Any], asked: tuple[torch.Tensor, ...]
    ) -> None:
        self.teacher, self.hidden, self.seen, self.asked = teacher, hidden, seen, asked

    def chunk(self, which: torch.Tensor) -> torch.Tensor:
        """Return float32 logits of the tokens with these numbers."""
        import torch

        with torch.no_grad():
            return self.teacher.head.logits(self.hidden[which])

    def slopes(self, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embeddings and the gradient by them of the mean loss of these tokens."""
        import torch

        ids, embedded = self.asked
        targets = ids[:, 1:].reshape(-1)[which]
        targets = targets if self.teacher.columns is None else self.teacher.columns[targets]
        with torch.enable_grad(), exact(embedded.device.type):
            found = by_embedding(embedded, self.hidden[which], targets, self.teacher.head, twice=False)
        return embedded.detach(), found.detach()
