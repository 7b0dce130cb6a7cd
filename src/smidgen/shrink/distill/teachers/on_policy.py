"""The student writes, the teacher scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.models.model import Model
from smidgen.shrink.distill.teachers import Answering, Answers, Lesson, Teacher
from smidgen.shrink.distill.teachers.live import Live, LiveAnswering

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OnPolicy(Teacher):
    """Let the student continue the beginning of a row and learn from what the teacher says of its own words.

    Formula: mean over y ~ q(·|x) of D(p(·|x, y), q(·|x, y)), x the beginning of a row. Mends what a student that is
    only shown good text does wrong once it writes by itself; with ``soft_output`` reversed or Jensen-Shannon. Every
    step writes anew, token by token: many times as slow as ``live``. Source: GKD, arXiv 2306.13649.

    Attributes:
        prompt: Share of a row that is given, above 0 and below 1.
        share: Share of the rows that the student continues, above 0; the others stay the data's own.
        temperature: At which it writes.

    Example:
        >>> OnPolicy().follows_text
        False
    """

    answers: ClassVar[frozenset[str]] = Live.answers
    follows_text: ClassVar[bool] = False
    prompt: float = 0.25
    share: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.prompt < 1:
            raise InvalidInput(f"The share of a row that is given must lie between 0 and 1, not {self.prompt}.")
        if not 0 < self.share <= 1:
            raise InvalidInput(f"The share of rows that the student continues must be above 0, not {self.share}.")
        if not 0.05 <= self.temperature <= 100:
            raise InvalidInput(f"A temperature must lie between 0.05 and 100, not {self.temperature}.")

    @contextmanager
    def open(self, lesson: Lesson) -> Iterator[OnPolicyAnswering]:
        """Open the live teacher; the lesson must name the student."""
        if lesson.student is None:
            raise InvalidInput("An on-policy lesson needs the student that writes.")
        with Live().open(replace(lesson)) as live:
            yield OnPolicyAnswering(self, lesson.student, live)


class OnPolicyAnswering(Answering):
    """The open teacher, and the student that writes for it."""

    def __init__(self, method: OnPolicy, student: Model, live: LiveAnswering) -> None:
        self.method, self.student, self.live = method, student, live

    def answers(self, ids: torch.Tensor, rows: torch.Tensor) -> Answers:
        """Score these tokens."""
        return self.live.answers(ids, rows)

    def text(self, ids: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Let the student continue rows; what it wrote counts, up to its end-of-text token.

        Random numbers are torch's own, which the training loop seeds anew in every step.
        """
        import torch

        given = max(1, round(self.method.prompt * ids.shape[1]))
        chosen = torch.rand(len(ids)) < self.method.share
        counted = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.to(ids.device).clone()
        ids = ids.clone()
        if bool(chosen.any()) and given < ids.shape[1]:
            written, valid = self._write(ids[chosen][:, :given], ids.shape[1])
            ids[chosen] = written
            counted[chosen] = valid
        return ids, counted

    def _write(self, prompts: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return prompts with their continuations ``[rows, length]`` and which tokens the student wrote."""
        import torch
        from transformers import GenerationConfig

        module, given = self.student.module, prompts.shape[1]
        training, defaults = module.training, module.generation_config
        module.eval()
        module.generation_config = GenerationConfig()  # what the model prefers in chats would bend its distribution
        try:
            with torch.no_grad():
                found = module.generate(
                    input_ids=prompts,
                    attention_mask=torch.ones_like(prompts),
                    generation_config=self._settings(length),
                )
        finally:
            module.generation_config = defaults
            module.train(training)
        padding = torch.full((len(found), length - found.shape[1]), self._end(), device=found.device)
        whole = torch.cat([found, padding.to(found.dtype)], 1)
        ended = (whole[:, given:] == self._end()).cumsum(1)
        valid = torch.zeros_like(whole, dtype=torch.bool)
        valid[:, given:] = (ended == 0) | ((ended == 1) & (whole[:, given:] == self._end()))
        return whole, valid

    def _end(self) -> int:
        end = self.student.tokenizer.eos_token_id
        return 0 if end is None else int(end)

    def _settings(self, length: int) -> Any:
        from transformers import GenerationConfig

        return GenerationConfig(
            do_sample=True,
            temperature=self.method.temperature,
            top_k=0,
            top_p=1.0,
            max_length=length,
            eos_token_id=self.student.tokenizer.eos_token_id,
            pad_token_id=self._end(),
            use_cache=True,
        )
