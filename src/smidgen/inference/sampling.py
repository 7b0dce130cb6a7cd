"""Which token comes next: penalties and filters on one row of scores, in the order in which llama.cpp applies them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from smidgen.inference.options import GenerationOptions

Row = NDArray[numpy.float64]


class Sampler:
    """Chooses tokens for one answer.

    With temperature 0 the most probable token is taken, the lowest number among equals.

    Args:
        options: How the answer is made.

    Example:
        >>> Sampler(GenerationOptions(temperature=0)).choose(numpy.array([0.5, 2.0, 1.0]), [])
        1
        >>> Sampler(GenerationOptions(temperature=0, repeat_penalty=3.0)).choose(numpy.array([0.5, 2.0, 1.0]), [1])
        2
    """

    def __init__(self, options: GenerationOptions) -> None:
        self._options = options
        self._random = numpy.random.default_rng(options.seed if options.seed >= 0 else None)

    def choose(self, scores: NDArray[numpy.floating], before: Sequence[int]) -> int:
        """Return the next token.

        Args:
            scores: Logits, [vocabulary].
            before: The tokens so far, those of the prompt included.
        """
        punished = penalised(numpy.asarray(scores, numpy.float64), before, self._options)
        if self._options.temperature == 0:
            return int(punished.argmax())
        tokens, probabilities = candidates(punished, self._options)
        return int(tokens[self._random.choice(len(tokens), p=probabilities)])


def penalised(scores: Row, before: Sequence[int], options: GenerationOptions) -> Row:
    """Lower the scores of tokens that occurred lately.

    A score is divided by ``repeat_penalty`` (multiplied where it is negative), then lowered by ``frequency_penalty``
    for each time and by ``presence_penalty`` once.

    Example:
        >>> options = GenerationOptions(repeat_penalty=2.0, frequency_penalty=0.5, presence_penalty=1.0)
        >>> penalised(numpy.array([4.0, -4.0, 4.0]), [0, 0, 1], options).tolist()
        [0.0, -9.5, 4.0]
    """
    off = options.repeat_penalty == 1 and options.presence_penalty == 0 and options.frequency_penalty == 0
    if off or options.repeat_last_n == 0 or not before:
        return scores
    lately = before[-options.repeat_last_n :] if options.repeat_last_n > 0 else before
    counted = Counter(token for token in lately if token >= 0)  # places of images are no tokens
    tokens = numpy.fromiter(counted, numpy.int64)
    times = numpy.fromiter(counted.values(), numpy.float64)
    result = scores.copy()
    own, factor = scores[tokens], max(options.repeat_penalty, 1e-9)
    own = numpy.where(own > 0, own / factor, own * factor)
    result[tokens] = own - times * options.frequency_penalty - options.presence_penalty
    return result


def candidates(scores: Row, options: GenerationOptions) -> tuple[NDArray[numpy.int64], Row]:
    """Return the tokens that may come next, most probable first, and their probabilities.

    Filters apply one after another: ``top_k``, ``typical_p``, ``top_p``, ``min_p``, then the temperature.

    Example:
        >>> tokens, shares = candidates(numpy.log([0.1, 0.6, 0.3]), GenerationOptions(top_p=0.8, temperature=1))
        >>> tokens.tolist(), shares.round(3).tolist()
        ([1, 2], [0.667, 0.333])
    """
    count = min(options.top_k or len(scores), len(scores))
    tokens = numpy.argpartition(-scores, count - 1)[:count]
    tokens = tokens[numpy.lexsort((tokens, -scores[tokens]))]
    if options.typical_p < 1:
        tokens = tokens[_typical(_softmax(scores[tokens]), options.typical_p)]
    if options.top_p < 1:
        reached = numpy.cumsum(_softmax(scores[tokens]))
        tokens = tokens[: int(numpy.searchsorted(reached, options.top_p)) + 1]
    if options.min_p > 0:
        shares = _softmax(scores[tokens])
        tokens = tokens[shares >= options.min_p * shares[0]]
    return tokens, _softmax(scores[tokens] / options.temperature)


def _typical(probabilities: Row, share: float) -> NDArray[numpy.int64]:
    """Return the places of those whose surprise is nearest to the mean surprise, together of this probability."""
    surprise = -numpy.log(numpy.maximum(probabilities, 1e-300))
    order = numpy.argsort(numpy.abs(surprise - (probabilities * surprise).sum()), kind="stable")
    kept = int(numpy.searchsorted(numpy.cumsum(probabilities[order]), share)) + 1
    return numpy.sort(order[:kept])


def _softmax(scores: Row) -> Row:
    shares = numpy.exp(scores - scores.max())
    total: Row = shares / shares.sum()
    return total
