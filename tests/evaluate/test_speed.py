from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate.memory import measure_memory
from smidgen.evaluate.speed import Latency, Rate, Ratio, measure_speed, measure_speeds
from smidgen.progress import Event


def test_a_rate_is_summarised_over_its_runs() -> None:
    rate = Rate.of(512, [1.0, 2.0, 4.0])
    assert (rate.mean, rate.median, rate.low, rate.high, rate.runs) == (pytest.approx(298.6667), 256, 128, 512, 3)
    assert rate.sd == pytest.approx(195.521, abs=1e-2)
    assert Rate.of(1, [0.5]).sd == 0


def test_percentiles_lie_between_runs() -> None:
    assert Latency.of([0.004]) == Latency(4.0, 4.0, 1, 4.0)
    assert Latency.of([0.003, 0.001, 0.002, 0.005, 0.004]) == Latency(3.0, 4.8, 5, 4.96)


@pytest.mark.index
def test_a_real_model_is_measured_in_one_go(smollm2_gguf: Path) -> None:
    events: list[Event] = []
    speed = measure_speed(smollm2_gguf, runs=1, warmup=0, quick=True, progress=events.append)
    assert speed.pp512.median > speed.tg128.median > 0
    assert speed.pp512.runs == speed.tg128.runs == 1
    assert 0 < speed.ttft_ms.p50 <= speed.ttft_ms.p95
    assert speed.load_s > 0
    assert smollm2_gguf.stat().st_size // 2 < speed.peak_rss_bytes < 2 << 30
    assert [event.done for event in events] == [0, 1]
    assert speed.to_dict()["tg128"]["median"] == speed.tg128.median


@pytest.mark.index
def test_memory_grows_with_the_context(smollm2_gguf: Path) -> None:
    small = measure_memory(smollm2_gguf, context=16)
    assert smollm2_gguf.stat().st_size // 2 < small.peak_rss_bytes
    assert small.peak_rss_bytes < measure_memory(smollm2_gguf, context=512).peak_rss_bytes


def test_bad_requests(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least 1 run"):
        measure_speed(tmp_path / "any.gguf", runs=0)
    with pytest.raises(ReferenceNotFound, match=r"missing\.gguf"):
        measure_speed(tmp_path / "missing.gguf")


def test_models_are_measured_in_turns_the_first_against_itself(source, noisy) -> None:
    one, two = measure_speeds([source.path, noisy.path], threads=1, runs=2, warmup=0)
    assert one.beside_first is None and two.beside_first is not None and two.first_again == one.first_again
    assert two.first_again is not None and 0 < two.first_again.low <= two.first_again.median <= two.first_again.high
    assert two.beside_first.low <= two.beside_first.median <= two.beside_first.high
    assert one.tg128.runs == two.tg128.runs == 2 and one.between_tokens_ms.runs == 2 * 128
    assert one.noise >= 0 and one.noisy == (one.noise > 0.1)
    assert one.cost(3.6) == pytest.approx(1000 / one.tg128.median)


def test_models_that_do_not_fit_together_are_not_set_beside_each_other(source, monkeypatch) -> None:
    monkeypatch.setattr("smidgen.machine.memory", lambda: (1 << 30, 1 << 20))
    one, two = measure_speeds([source.path, source.path], threads=1, runs=1, warmup=0)
    assert one.beside_first is two.beside_first is two.first_again is None


def test_ratios_are_those_of_the_same_round() -> None:
    found = Ratio.of([1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert (found.median, found.low, found.high) == (1.0, 0.5, 2.0)
