"""Match the teacher's next-token distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from smidgen import divergence
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.shrink.distill.losses import Chunk, OutputLoss, TopTokens

if TYPE_CHECKING:
    import torch

DIRECTIONS = ("forward", "jensen_shannon", "reverse")
SMALLEST_TAIL = 1e-9


@dataclass(frozen=True)
class SoftOutput(OutputLoss):
    """T²·D(softmax(z_t/T), softmax(z_s/T)) per token, in nats; logits ``[tokens, vocabulary]``.

    Over the tokens that both vocabularies share, renormalised. Of a teacher's top k tokens, all others are one
    more outcome; at T = 1 that is exact for the outcomes kept, at other T the tail is taken as spread evenly.
    The one to start with. Sources: Hinton 2015, arXiv 1503.02531; GKD, arXiv 2306.13649.

    Attributes:
        direction: ``forward`` KL(p‖q) covers all the teacher may say; ``reverse`` KL(q‖p) keeps to its main
            answers; ``jensen_shannon`` lies between.
        beta: Weight of the teacher in the mixture of ``jensen_shannon``, above 0 and below 1.

    Example:
        >>> import torch
        >>> chunk = Chunk(torch.tensor([0]), teacher=torch.tensor([[0.0, 0.0]]))
        >>> student = torch.log(torch.tensor([[0.25, 0.75]]))
        >>> round(float(SoftOutput().per_token(student, chunk)[0]), 4)
        0.1438
    """

    direction: str = "forward"
    beta: float = 0.5

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ReferenceNotFound.among("direction", self.direction, DIRECTIONS)
        if not 0 < self.beta < 1:
            raise InvalidInput(f"soft_output's beta must lie between 0 and 1, not {self.beta}.")

    def per_token(self, logits: torch.Tensor, chunk: Chunk) -> torch.Tensor:
        """Return T² times the divergence of every token."""
        temperature = chunk.temperature
        assert chunk.teacher is not None
        if isinstance(chunk.teacher, TopTokens):
            source, result = _coarse(logits, chunk, chunk.teacher)
        else:
            shared = logits if chunk.columns is None else logits.index_select(1, chunk.columns)
            source, result = chunk.teacher, shared
            if temperature != 1:
                source, result = source / temperature, result / temperature
        rows = logits.shape[0]
        if self.direction == "reverse":
            apart = divergence.kl(result, source, chunk=rows)
        elif self.direction == "forward":
            apart = _forward().apply(result, source)
        else:
            apart = divergence.jensen_shannon(source, result, beta=self.beta, chunk=rows)
        return apart * temperature**2


@cache
def _forward() -> Any:
    """Return `divergence.kl` with its gradient q − p computed along the way: half the passes over the logits."""
    import torch

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, result: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
            student, teacher = result.log_softmax(-1), source.log_softmax(-1)
            likely = teacher.exp()
            apart = teacher.sub_(student).mul_(likely).sum(-1)
            ctx.slope = student.exp_().sub_(likely)
            return apart

        @staticmethod
        def backward(ctx: Any, outer: torch.Tensor) -> Any:
            return ctx.slope.mul_(outer[:, None]), None

    return Forward


def _coarse(logits: torch.Tensor, chunk: Chunk, top: TopTokens) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities ``[tokens, k + 1]`` of teacher and student, the tail last."""
    import torch

    temperature, (_, k) = chunk.temperature, top.indices.shape
    width = logits.shape[1] if chunk.columns is None else len(chunk.columns)
    others = max(1, width - k)
    spread = top.tail.clamp_min(SMALLEST_TAIL).log() - math.log(others)
    tail = spread / temperature + math.log(others)
    source = torch.cat([top.log_probabilities / temperature, tail[:, None]], -1)
    scaled = logits if temperature == 1 else logits / temperature
    if chunk.columns is not None and len(chunk.columns) < logits.shape[1]:
        foreign = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        foreign[chunk.columns] = False
        scaled = scaled.masked_fill(foreign, -math.inf)
    return source.log_softmax(-1), _grouped().apply(scaled, top.indices)


@cache
def _grouped() -> Any:
    """Return the log-probabilities ``[tokens, k + 1]`` of chosen tokens and of all others together.

    Its gradient is written out: q·(g_tail / q_tail − Σg) off the chosen tokens and g − q·Σg on them.
    """
    import torch

    class Grouped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
            scores = logits.log_softmax(-1)
            found = scores.gather(1, chosen)
            outside = scores.exp_().scatter_(1, chosen, 0)
            rest = outside.sum(-1, keepdim=True).clamp_min(torch.finfo(logits.dtype).tiny)
            ctx.save_for_backward(outside, chosen, found, rest)
            return torch.cat([found, rest.log()], -1)

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            outside, chosen, found, rest = ctx.saved_tensors
            total = slope.sum(-1, keepdim=True)
            by_logits = outside * (slope[:, -1:] / rest - total)
            return by_logits.scatter_(1, chosen, slope[:, :-1] - found.exp() * total), None

    return Grouped
