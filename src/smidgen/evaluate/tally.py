"""What two models say about each token of a text, gathered chunk by chunk so that nothing is held whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from smidgen import divergence
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    import torch

_ROWS = 64  # tokens compared at a time; bounds the memory of the probabilities


@dataclass(frozen=True)
class Tally:
    """What was found at each scored token; float64 arrays [tokens].

    Attributes:
        kl: Divergence of source ‖ result, in nats.
        source: Negative log-probability that the source gives to the token that came, in nats.
        result: The same of the result.
        same_top: 1 where both put the same token first, else 0.
        dropped: Probability that the source gives to tokens that the result does not have.
    """

    kl: NDArray[numpy.float64]
    source: NDArray[numpy.float64]
    result: NDArray[numpy.float64]
    same_top: NDArray[numpy.float64]
    dropped: NDArray[numpy.float64]


Chunk = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]


def tally(chunks: Iterable[Chunk], kept_tokens: Sequence[int] | None = None) -> Tally:
    """Compare logits token by token.

    Args:
        chunks: Source logits [n, source vocabulary], result logits [n, result vocabulary] and targets [n] (int64,
            the result's tokens), chunk after chunk.
        kept_tokens: The source's id of each of the result's tokens; None where both have the same tokens.
    """
    import torch

    kept = None if kept_tokens is None else torch.tensor(kept_tokens, dtype=torch.long)
    columns: list[list[NDArray[numpy.float64]]] = [[], [], [], [], []]
    for source, result, targets in chunks:
        for begin in range(0, len(targets), _ROWS):
            part = slice(begin, begin + _ROWS)
            row = _compare(source[part].float(), result[part].float(), targets[part], kept)
            for column, values in zip(columns, row, strict=True):
                column.append(values.double().numpy())
    if not columns[0]:
        raise InvalidInput("There is no token to compare.")
    return Tally(*(numpy.concatenate(column) for column in columns))


def _compare(
    source: torch.Tensor, result: torch.Tensor, targets: torch.Tensor, kept: torch.Tensor | None
) -> tuple[torch.Tensor, ...]:
    import torch

    top, dropped = source.argmax(-1), torch.zeros(len(targets))
    if kept is not None:
        everything = source.double().logsumexp(-1)
        source = source.index_select(-1, kept)
        dropped = -torch.expm1(source.double().logsumexp(-1) - everything)
    chosen = result.argmax(-1) if kept is None else kept[result.argmax(-1)]
    return (
        divergence.kl(source, result).clamp(min=0),  # below 0 by rounding only
        divergence.negative_log_likelihood(source, targets),
        divergence.negative_log_likelihood(result, targets),
        top == chosen,
        dropped.clamp(min=0),
    )


def standard_error(values: NDArray[numpy.float64]) -> float:
    """Return the standard error of the mean of independent values, 0 where there is only one."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
