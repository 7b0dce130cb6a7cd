import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen.errors import InvalidInput
from smidgen.evaluate.benchmarks.classification import macro_f1, matrix
from smidgen.tasks.calibration import Calibration, calibration_error, contextual, fit, offsets, softmax


def drawn(seed, count, temperature, biases):
    """Log-likelihoods of labels, and labels drawn from the probabilities that temperature and biases give."""
    generator = numpy.random.default_rng(seed)
    values = generator.normal(0, 3, (count, len(biases)))
    p = softmax(values / temperature + numpy.asarray(biases))
    return values.tolist(), [int(generator.choice(len(biases), p=row)) for row in p], p


def test_temperature_and_biases_are_found_again():
    values, right, true = drawn(0, 4000, 2.5, [1.0, 0.0, -1.0])
    found = fit(values, right, ["a", "b", "c"])
    assert found.temperature == pytest.approx(2.5, rel=0.1)
    assert numpy.abs(found.probabilities(values) - true).mean() < 0.01


def test_the_fit_is_the_least_loss_there_is():
    values, right, _ = drawn(1, 300, 0.7, [0.0, 0.5])

    def loss(temperature, bias):
        p = softmax(numpy.asarray(values) / temperature + numpy.array([bias, -bias]) / 2)
        return -numpy.log(p[numpy.arange(len(right)), right]).mean()

    found = fit(values, right, ["a", "b"])
    reached = loss(found.temperature, found.biases[0] - found.biases[1])
    grid = min(loss(t, b) for t in numpy.linspace(0.3, 1.5, 60) for b in numpy.linspace(-2, 2, 81))
    assert reached <= grid + 1e-3


def test_few_texts_leave_the_biases_at_zero():
    values, right, _ = drawn(2, 12, 1.0, [0.0, 0.0])
    assert fit(values, right, ["a", "b"]).biases == (0.0, 0.0)


def test_labels_that_are_told_apart_without_fault_keep_the_temperature_above_zero():
    found = fit([[9.0, 0.0], [0.0, 9.0]] * 20, [0, 1] * 20, ["a", "b"])
    assert found.temperature > 0.01
    assert found.probabilities([[9.0, 0.0]])[0, 0] > 0.99


def test_texts_of_one_label_are_refused():
    with pytest.raises(InvalidInput, match="all have one label"):
        fit([[0.0, 1.0]] * 3, [1, 1, 1], ["a", "b"])


def test_what_a_model_prefers_before_it_reads_is_taken_away():
    assert contextual([[-1.0, -5.0]], [[-1.0, -5.0]])[0].tolist() == pytest.approx([0.5, 0.5])
    liked = contextual([[-1.0, -3.0]], [[-1.0, -5.0]])[0]
    assert liked[1] == pytest.approx(numpy.exp(2) / (1 + numpy.exp(2)))


@given(st.lists(st.lists(st.floats(-60, 0), min_size=3, max_size=3), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_probabilities_sum_to_one_and_follow_a_shift_of_all_labels(rows):
    calibration = Calibration(("a", "b", "c"), 1.7, (0.1, -0.2, 0.0), (0.5, 0.3, 0.2), 30)
    p = calibration.probabilities(rows)
    assert numpy.allclose(p.sum(axis=1), 1)
    assert numpy.allclose(p, calibration.probabilities([[value + 7 for value in row] for row in rows]))


def test_even_labels_forget_how_frequent_each_was():
    calibration = Calibration(("a", "b"), 1.0, (numpy.log(0.9), numpy.log(0.1)), (0.9, 0.1), 100)
    assert calibration.probabilities([[0.0, 0.0]])[0].tolist() == pytest.approx([0.9, 0.1])
    assert calibration.probabilities([[0.0, 0.0]], even=True)[0].tolist() == pytest.approx([0.5, 0.5])


def mean_f1(probabilities, right):
    return macro_f1(matrix(right, probabilities.argmax(1).tolist(), probabilities.shape[1]))


def test_labels_that_count_alike_are_told_better_on_other_texts():
    """A rare label that is seldom the likeliest is given where that raises the mean F1."""
    biases = [3.0, 0.0, -1.5]
    values, right, _ = drawn(3, 2000, 2.5, biases)
    found = fit(values, right, ["common", "some", "rare"])
    others, truth, _ = drawn(4, 4000, 2.5, biases)
    plain, even = (found.probabilities(others, even=even) for even in (False, True))
    shares = plain / numpy.asarray(found.shares)
    assert mean_f1(even, truth) > mean_f1(plain, truth) + 0.02
    assert mean_f1(even, truth) > mean_f1(shares, truth) - 0.005


def test_offsets_are_the_best_there_are():
    """For two labels the offset is a threshold; every other one promises no higher mean F1."""
    p = softmax(numpy.random.default_rng(5).normal([2.5, 0.0], 1.5, (300, 2)))
    found = offsets(p)

    def promised(taken):
        parts = [2 * p[taken == k, k].sum() / ((taken == k).sum() + p[:, k].sum()) for k in range(2)]
        return sum(parts) / 2

    reached = promised((numpy.log(p) + found).argmax(1))
    best = max(promised((numpy.log(p) + numpy.array([0, step])).argmax(1)) for step in numpy.linspace(-6, 6, 97))
    assert reached == pytest.approx(best) and reached > promised(p.argmax(1))
    assert sum(found) == pytest.approx(0)


def test_the_error_of_confidence_is_the_gap_between_saying_and_being_right():
    p = numpy.array([[0.9, 0.1]] * 10)
    assert calibration_error(p, [0] * 9 + [1]) == pytest.approx(0.0)
    assert calibration_error(p, [0] * 5 + [1] * 5) == pytest.approx(0.4)


def test_a_calibration_comes_back_from_json():
    found = Calibration(("a", "b"), 2.0, (0.5, 0.0), (0.25, 0.75), 40)
    assert (
        Calibration.from_dict({"labels": ["a", "b"], **{k: v for k, v in found.to_dict().items() if k != "labels"}})
        == found
    )
