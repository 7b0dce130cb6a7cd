import math

import torch

from smidgen.shrink.training.overfitting import Watch


def test_the_best_weights_are_copies():
    weight, watch = torch.zeros(3), Watch(patience=2)
    watch.observe(0, 1.0, {"w": weight})
    weight += 1
    watch.observe(5, 2.0, {"w": weight})
    assert watch.best["w"].tolist() == [0, 0, 0] and watch.best_step == 0


def test_it_stops_after_patience_looks_and_not_before():
    watch, stopped = Watch(patience=2), []
    for step, loss in enumerate([3.0, 2.0, 2.5, 1.9, 2.0, 2.1]):
        watch.observe(step, loss, {})
        stopped.append(watch.exhausted)
    assert stopped == [False, False, False, False, False, True]


def test_no_patience_never_stops_and_no_number_is_no_improvement():
    watch = Watch(patience=0)
    for step, loss in enumerate([1.0, math.nan, 2.0, 3.0, 4.0]):
        watch.observe(step, loss, {"w": torch.tensor([float(step)])})
    assert not watch.exhausted and watch.best_step == 0


def test_both_curves_and_the_gap():
    watch = Watch(patience=0)
    watch.observe(0, 5.0, {})
    for loss in (4.0, 2.0):
        watch.take(loss)
    watch.observe(2, 3.5, {})
    watch.take(1.0)
    curves = watch.curves(3)
    assert curves.training == ((2, 3.0), (3, 1.0)) and curves.held_out == ((0, 5.0), (2, 3.5))
    assert curves.gap == 0.5 and curves.to_dict()["gap"] == 0.5


def test_a_restored_watch_goes_on_alike():
    first, second = Watch(patience=2), Watch(patience=2)
    first.observe(0, 2.0, {"w": torch.ones(2)})
    first.take(0.25)
    second.restore(first.to_dict(), first.best)
    for watch in (first, second):
        watch.observe(1, 3.0, {})
        watch.observe(2, 3.0, {})
    assert first.curves(2) == second.curves(2) and second.exhausted
    assert torch.equal(first.best["w"], second.best["w"])
