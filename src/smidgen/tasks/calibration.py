r"""From the log-likelihoods of labels to probabilities that can be trusted.

p(label | text) = softmax((l − l₀) / T + b), with l the labels' log-likelihoods behind the text, l₀ the logarithm of
their mean likelihood behind texts that say nothing (contextual calibration, Zhao 2021, arXiv 2102.09690), and the
temperature T (Guo 2017, arXiv 1706.04599) and one bias per label b fitted to labelled texts. Without labelled texts T
is 1 and b is 0; with them the biases do what l₀ does, and l₀ is left out.

Where every label counts alike, however rare, the label with the largest ln p + o is taken. The offsets o are those of
the highest mean over the labels of 2 Σ p(taken) / (count taken + Σ p), the F1 that p itself promises (Lipton 2014,
arXiv 1402.1892, whose threshold for one label is half of its best F1): what labels the texts have is not looked at for
them, so that the few texts of a rare label do not decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Matrix = NDArray[numpy.float64]

FEWEST = 10
"""Labelled texts of a label from which its bias is fitted; with fewer of any label only the temperature is."""

_PENALTY = 1e-3
_ROUNDS, _HALVINGS = 60, 30
_PASSES = 4
_STEPS = tuple(step / 8 for step in range(-48, 49))
"""Offsets that are tried, in nats."""
_LEAST_GAIN = 1e-9


@dataclass(frozen=True)
class Calibration:
    """How log-likelihoods of labels become probabilities.

    Attributes:
        labels: The labels that it was fitted for.
        temperature: T.
        biases: b, one per label.
        shares: How often each label stood in the labelled texts.
        texts: Count of labelled texts.
        offsets: o, one per label; what leads to the highest mean F1. Without them those that make up for the shares.
    """

    labels: tuple[str, ...]
    temperature: float
    biases: tuple[float, ...]
    shares: tuple[float, ...]
    texts: int
    offsets: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` returned."""
        taken: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**taken)

    def probabilities(self, likelihoods: Sequence[Sequence[float]], *, even: bool = False) -> Matrix:
        """Return p, shape (texts, labels).

        Args:
            likelihoods: l in nats, shape (texts, labels).
            even: Every label counts alike: with o added and made to sum to 1 again.
        """
        import numpy

        logits = numpy.asarray(likelihoods, numpy.float64) / self.temperature + numpy.asarray(self.biases)
        if even:
            logits = logits + (self.offsets or -numpy.log(numpy.maximum(self.shares, 1e-6)))
        return softmax(logits)


def softmax(logits: Matrix) -> Matrix:
    """Return e^z / Σ e^z over the last axis.

    Example:
        >>> import numpy
        >>> softmax(numpy.log([[1.0, 3.0]])).round(2).tolist()
        [[0.25, 0.75]]
    """
    import numpy

    shifted = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Matrix = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def contextual(likelihoods: Sequence[Sequence[float]], saying_nothing: Sequence[Sequence[float]]) -> Matrix:
    """Return p without labelled texts, shape (texts, labels).

    Args:
        likelihoods: l in nats, shape (texts, labels).
        saying_nothing: The same behind texts that say nothing, shape (such texts, labels).

    Example:
        >>> contextual([[-1.0, -2.0]], [[-1.0, -2.0]]).round(2).tolist()
        [[0.5, 0.5]]
    """
    import numpy

    nothing = softmax(numpy.asarray(saying_nothing, numpy.float64)).mean(axis=0)
    return softmax(numpy.asarray(likelihoods, numpy.float64) - numpy.log(nothing))


def fit(likelihoods: Sequence[Sequence[float]], right: Sequence[int], labels: Sequence[str]) -> Calibration:
    """Fit temperature and biases to labelled texts: the least mean −ln p(right label) by Newton's method.

    In 1 / T and b it is convex. The biases are drawn to 0 a little, so that a label that is never wrong keeps finite.

    Args:
        likelihoods: l in nats, shape (texts, labels).
        right: Number of each text's label.
        labels: The labels.

    Raises:
        InvalidInput: There are no texts, or only one label occurs.

    Example:
        >>> found = fit([[0.0, 4.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0]], [1, 0, 1, 0], ["a", "b"])
        >>> round(found.temperature, 2)
        3.64
    """
    import numpy

    values, target = numpy.asarray(likelihoods, numpy.float64), numpy.asarray(right, numpy.int64)
    if len(set(right)) < 2:
        raise InvalidInput(
            "Confidence cannot be fitted to texts that all have one label.", remedy="Give texts of others."
        )
    counts = numpy.bincount(target, minlength=len(labels))
    values = values - values.mean(axis=1, keepdims=True)
    free = len(labels) if counts.min() >= FEWEST else 0
    found = _newton(values, target, free)
    biases = numpy.concatenate([found[1:], numpy.zeros(len(labels) - free)])
    shares = counts / counts.sum()
    fitted = tuple(map(float, biases)), tuple(map(float, shares))
    calibration = Calibration(tuple(labels), float(1 / found[0]), *fitted, len(right))
    return replace(calibration, offsets=offsets(calibration.probabilities(values.tolist())))


def offsets(probabilities: Matrix) -> tuple[float, ...]:
    """Find what to add to ln p so that taking the largest sum leads to the highest mean F1, one label after the other.

    Args:
        probabilities: p, shape (texts, labels).

    Example:
        >>> import numpy
        >>> rare, common = [0.3, 0.7], [0.01, 0.99]
        >>> found = offsets(numpy.array([rare] * 10 + [common] * 90))
        >>> (numpy.log([rare, common]) + found).argmax(1).tolist()
        [0, 1]
    """
    import numpy

    logits = numpy.log(numpy.maximum(probabilities, 1e-12))
    count = logits.shape[1]
    found = numpy.zeros(count)
    best = _promised(logits.argmax(1), probabilities)
    for _ in range(_PASSES):
        before = best
        for label in range(count):
            shifted = logits + found
            shifted[:, label] = -numpy.inf
            other, least = shifted.argmax(1), shifted.max(1)
            values = numpy.array(
                [
                    _promised(numpy.where(logits[:, label] + step > least, label, other), probabilities)
                    for step in _STEPS
                ]
            )
            if values.max() > best + _LEAST_GAIN:
                best = float(values.max())
                alike = numpy.flatnonzero(values > best - _LEAST_GAIN)
                found[label] = _STEPS[alike[len(alike) // 2]]
        if best == before:
            break
    return tuple(map(float, found - found.mean()))


def _promised(taken: NDArray[numpy.int64], probabilities: Matrix) -> float:
    """Return the mean F1 over the labels that probabilities promise for the labels taken."""
    import numpy

    count = probabilities.shape[1]
    hits = numpy.bincount(taken, probabilities[numpy.arange(len(taken)), taken], count)
    sizes = numpy.bincount(taken, minlength=count) + probabilities.sum(0)
    return float((2 * hits / numpy.maximum(sizes, 1e-12)).mean())


def _newton(values: Matrix, target: NDArray[numpy.int64], free: int) -> Matrix:
    """Minimise over (1 / T, b); b are the biases of the first ``free`` labels."""
    import numpy

    count, labels = values.shape
    onehot = numpy.eye(labels)[target]
    # Column 0 multiplies 1 / T, the others the biases: logits = features · parameters, per text and label.
    features = numpy.concatenate(
        [values[:, :, None], numpy.broadcast_to(numpy.eye(labels)[:, :free], (count, labels, free))], 2
    )
    penalty = numpy.full(1 + free, _PENALTY)
    start = numpy.zeros(1 + free)
    start[0] = 1.0

    def loss(parameters: Matrix) -> float:
        p = softmax(features @ parameters)
        right = numpy.log(numpy.maximum((p * onehot).sum(axis=1), 1e-300))
        return float(-right.mean() + 0.5 * (penalty * (parameters - start) ** 2).sum())

    found = start.copy()
    for _ in range(_ROUNDS):
        p = softmax(features @ found)
        slope = numpy.einsum("nl,nlk->k", p - onehot, features) / count + penalty * (found - start)
        mean = numpy.einsum("nl,nlk->nk", p, features)
        curve = numpy.einsum("nl,nlj,nlk->jk", p, features, features) / count - mean.T @ mean / count
        step = numpy.linalg.solve(curve + numpy.diag(penalty), slope)
        size, before = 1.0, loss(found)
        for _ in range(_HALVINGS):
            tried = found - size * step
            if tried[0] > 1e-3 and loss(tried) <= before:
                break
            size /= 2
        else:
            break
        found = tried
        if float(numpy.abs(size * step).max()) < 1e-9:
            break
    return found


def calibration_error(probabilities: Matrix, right: Sequence[int], bins: int = 10) -> float:
    """Return the expected calibration error: |share right − mean confidence| over bins of confidence, by their size.

    Args:
        probabilities: Shape (texts, labels).
        right: Number of each text's label.
        bins: Equal parts of 0 to 1.

    Example:
        >>> import numpy
        >>> calibration_error(numpy.array([[0.8, 0.2], [0.8, 0.2]]), [0, 1])
        0.30000000000000004
    """
    import numpy

    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == numpy.asarray(right)
    place = numpy.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(hit[place == each].sum() - confidence[place == each].sum()) for each in range(bins)]
    return float(sum(gaps) / len(hit))
