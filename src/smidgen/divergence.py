"""How far two next-token distributions lie apart: pure maths that losses, allocation and evaluation share.

All functions take logits ``[tokens, vocabulary]`` of source and result and work in chunks of tokens, so that no
more than ``chunk`` rows of probabilities exist at a time. Results are in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHUNK = 256


def _starts(logits: torch.Tensor, chunk: int) -> range:
    """Return where chunks begin; no tokens make one empty chunk, which keeps shape and type."""
    return range(0, max(1, logits.shape[0]), chunk)


def _chunks(source: torch.Tensor, result: torch.Tensor, chunk: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for start in _starts(source, chunk):
        yield (
            source[start : start + chunk].float().log_softmax(-1),
            result[start : start + chunk].float().log_softmax(-1),
        )


def kl(source: torch.Tensor, result: torch.Tensor, *, chunk: int = CHUNK) -> torch.Tensor:
    """Kullback-Leibler divergence Σ p·(log p − log q) of every token, ``[tokens]``, in nats.

    Args:
        source: Logits of p, ``[tokens, vocabulary]``.
        result: Logits of q, same shape.
        chunk: Tokens at a time.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.0, 0.0]])
        >>> q = torch.log(torch.tensor([[0.25, 0.75]]))
        >>> round(float(kl(p, q)[0]), 4)
        0.1438
    """
    import torch

    return torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in _chunks(source, result, chunk)])


def jensen_shannon(
    source: torch.Tensor, result: torch.Tensor, *, beta: float = 0.5, chunk: int = CHUNK
) -> torch.Tensor:
    """Generalised Jensen-Shannon divergence β·KL(p‖m) + (1−β)·KL(q‖m), m = β·p + (1−β)·q, ``[tokens]``.

    Source: Agarwal 2023, arXiv 2306.13649. ``beta=0.5`` is symmetric and at most log 2.

    Example:
        >>> import torch
        >>> apart = jensen_shannon(torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]]))
        >>> round(float(apart[0]), 4)
        0.6931
    """
    import math

    import torch

    parts = []
    for p, q in _chunks(source, result, chunk):
        mixed = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
        parts.append(beta * (p.exp() * (p - mixed)).sum(-1) + (1 - beta) * (q.exp() * (q - mixed)).sum(-1))
    return torch.cat(parts)


def same_top(source: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """Whether both put the same token first, bool ``[tokens]``."""
    return source.argmax(-1) == result.argmax(-1)


def negative_log_likelihood(logits: torch.Tensor, targets: torch.Tensor, *, chunk: int = CHUNK) -> torch.Tensor:
    """−log q(target) of every token, ``[tokens]``, in nats.

    Args:
        logits: ``[tokens, vocabulary]``.
        targets: int64 ``[tokens]``.
        chunk: Tokens at a time.
    """
    import torch
    import torch.nn.functional as functional

    return torch.cat(
        [
            functional.cross_entropy(
                logits[start : start + chunk].float(), targets[start : start + chunk], reduction="none"
            )
            for start in _starts(logits, chunk)
        ]
    )
