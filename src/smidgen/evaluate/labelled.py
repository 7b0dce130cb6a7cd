"""How well labels are told by their likelihoods: accuracy, macro F1, confidence, each beside always saying the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smidgen.evaluate.benchmarks.classification import macro_f1, matrix
from smidgen.tasks.calibration import Calibration, calibration_error, fit

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

PARTS = 5
"""Parts of the labelled texts, each of which is measured by what the others were fitted to."""


def label_figures(
    likelihoods: Sequence[Sequence[float]], right: Sequence[int], labels: Sequence[str]
) -> tuple[dict[str, Any], Calibration | None]:
    """Measure labels with fitted confidence: each fifth of the texts by what the others were fitted to.

    Args:
        likelihoods: ln p of each label behind each text, in nats, shape (texts, labels).
        right: Number of each text's label.
        labels: The labels.

    Returns:
        ``accuracy``, ``macro_f1``, ``even`` (both, and the confusion, where every label counts alike),
        ``majority`` (both figures of always saying the commonest label), ``calibration_error`` and ``confusion``; and
        the calibration fitted to all texts, None where they are too few or all of one label.

    Example:
        >>> rows = [[0.0, 3.0], [3.0, 0.0], [0.0, 2.0], [1.0, 0.0]] * 5
        >>> figures, calibration = label_figures(rows, [1, 0, 1, 0] * 5, ["ham", "spam"])
        >>> figures["accuracy"], figures["majority"]["accuracy"]
        (1.0, 0.5)
    """
    import numpy

    values, target = numpy.asarray(likelihoods, numpy.float64), numpy.asarray(right)
    parts = _parts(target)
    if any(len(set(target[~part].tolist())) < 2 for part in parts):
        return share_right(values.argmax(1).tolist(), right, labels) | {"calibration_error": None}, None
    plain, even = numpy.zeros_like(values), numpy.zeros_like(values)
    for part in parts:
        fitted = fit(values[~part].tolist(), target[~part].tolist(), labels)
        plain[part] = fitted.probabilities(values[part].tolist())
        even[part] = fitted.probabilities(values[part].tolist(), even=True)
    figures = share_right(plain.argmax(1).tolist(), right, labels)
    figures["even"] = {
        name: value for name, value in share_right(even.argmax(1).tolist(), right, labels).items() if name != "majority"
    }
    return figures | {"calibration_error": calibration_error(plain, right)}, fit(values.tolist(), right, labels)


def _parts(target: NDArray[numpy.int64]) -> list[NDArray[numpy.bool_]]:
    """Divide texts in five, each label alike; parts without texts are left out."""
    import numpy

    place = numpy.zeros(len(target), int)
    for label in set(target.tolist()):
        found = numpy.flatnonzero(target == label)
        place[found] = numpy.arange(len(found)) % PARTS
    return [place == part for part in range(PARTS) if (place == part).any()]


def share_right(given: Sequence[int], right: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """Return accuracy, macro F1, both of always saying the commonest label, and the confusion matrix.

    Args:
        given: Number of the label that each text was given.
        right: Number of each text's label.
        labels: The labels.
    """
    counts = matrix(right, given, len(labels))
    commonest = max(range(len(labels)), key=lambda label: sum(counts[label]))
    always = matrix(right, [commonest] * len(right), len(labels))
    return {
        "accuracy": _share(counts),
        "macro_f1": macro_f1(counts),
        "majority": {"accuracy": _share(always), "macro_f1": macro_f1(always)},
        "confusion": counts,
    }


def _share(counts: Sequence[Sequence[int]]) -> float:
    return sum(row[place] for place, row in enumerate(counts)) / sum(map(sum, counts))
