"""The teacher runs beside the student."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.distill.teachers import Lesson, Teacher, watching, without_last
from smidgen.shrink.precision import autocast
from smidgen.shrink.training.loop import narrow_frozen

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Live(Teacher):
    """Compute the teacher's answers anew for every batch: no disk, full distributions, hidden states too.

    Formula: logits = head(body(tokens)), restricted to shared tokens. Costs one forward pass of the teacher per
    token, about a quarter of a step where both have one size. Source: Hinton 2015, arXiv 1503.02531.

    Example:
        >>> Live().gives_states
        True
    """

    gives_states: ClassVar[bool] = True

    @contextmanager
    def open(self, lesson: Lesson) -> Iterator[LiveAnswering]:
        """Hold the teacher's matrices in the type that multiplies fastest, until closed."""
        module, training = lesson.teacher.module, lesson.teacher.module.training
        parameters = dict(module.named_parameters())
        module.eval()
        held = narrow_frozen(module, lambda _: True)
        try:
            yield LiveAnswering(lesson)
        finally:
            for name, value in held.items():
                parameters[name].data = value
            module.train(training)


class LiveAnswering:
    """The open teacher."""

    def __init__(self, lesson: Lesson) -> None:
        module, rows = lesson.teacher.module, lesson.vocabulary.rows()
        head = module.get_submodule(lesson.teacher.anatomy.head)
        self.lesson, self.body = lesson, module.base_model
        self.device: torch.device = head.weight.device
        weight, bias = head.weight.detach(), None if head.bias is None else head.bias.detach()
        if rows is not None:
            rows = rows.to(self.device)
            weight, bias = weight[rows], None if bias is None else bias[rows]
        self.weight, self.bias = weight.to(lesson.dtype), bias

    def answers(self, rows: torch.Tensor) -> LiveAnswers:
        """Run the teacher's body over these rows."""
        import torch

        lesson = self.lesson
        ids = lesson.vocabulary.asked(lesson.ids[rows]).to(self.device)
        with (
            torch.no_grad(),
            autocast(self.device.type),
            watching(lesson.teacher.module, lesson.blocks) as states,
        ):
            hidden = self.body(input_ids=ids, use_cache=False).last_hidden_state
        read = without_last(hidden).to(lesson.dtype)
        return LiveAnswers(self, read, [without_last(state).float() for state in states])


class LiveAnswers:
    """What the teacher's body computed of a batch; the head is applied to the tokens that are asked for."""

    def __init__(self, teacher: LiveAnswering, hidden: torch.Tensor, states: list[torch.Tensor]) -> None:
        self.teacher, self.hidden, self.states = teacher, hidden, states

    def chunk(self, which: torch.Tensor) -> torch.Tensor:
        """Return float32 logits of the tokens with these numbers."""
        import torch

        with torch.no_grad():
            logits: torch.Tensor = (self.hidden[which] @ self.teacher.weight.T).float()
            return logits if self.teacher.bias is None else logits + self.teacher.bias.float()
