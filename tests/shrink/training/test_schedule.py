import pytest
import torch

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.shrink.training.schedule import Schedule, rows_of_step, seed_of


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_the_rate_rises_to_the_peak_and_never_falls_below_the_floor(shape):
    schedule = Schedule(steps=100, peak=2.0, warmup=0.1, shape=shape, floor=0.25)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10]) and rates[9] == pytest.approx(2.0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert min(rates[9:]) >= 0.5
    assert rates[-1] == pytest.approx(2.0 if shape == "constant" else 0.5, abs=0.05)


def test_without_warm_up_the_first_rate_is_the_peak():
    assert Schedule(steps=3, peak=1.0, warmup=0.0).rate(0) == 1.0


def test_cosine_is_half_way_in_the_middle():
    assert Schedule(steps=100, peak=1.0, warmup=0.0, floor=0.0).rate(50) == pytest.approx(0.5)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ReferenceNotFound, match="cosine"):
        Schedule(1, 1.0, shape="cosin")
    with pytest.raises(InvalidInput):
        Schedule(1, 1.0, warmup=1.5)


def test_every_row_comes_once_before_any_comes_again_also_across_borders():
    seen = torch.cat([rows_of_step(7, 3, 5, step) for step in range(7)]).tolist()
    for epoch in range(3):
        assert sorted(seen[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert seen[:7] != seen[7:14]


def test_the_order_depends_on_seed_and_step_alone():
    late = rows_of_step(50, 4, 1, 9).tolist()
    assert [rows_of_step(50, 4, 1, step).tolist() for step in range(12)][9] == late
    assert rows_of_step(50, 4, 2, 9).tolist() != late
    assert len({seed_of(seed, step) for seed in range(30) for step in range(30)}) == 900


def test_a_batch_may_hold_more_rows_than_there_are():
    assert sorted(rows_of_step(2, 5, 0, 0).tolist()).count(0) in (2, 3)
