"""Estimates follow from bytes, blocks, experts and windows, and leave out what no source says."""

from __future__ import annotations

import pytest

from smidgen.evaluate.calibrate import Calibration
from smidgen.evaluate.estimate import FORMATS, estimate, formats_of
from smidgen.inference.footprint import VOCABULARY_BYTES
from smidgen.models import catalog

MACHINE = Calibration(20e9, 100e9, 2, token_seconds=0.01, read_seconds=0.002, memory=60_000_000)


def of(name: str, number_format: str = "Q4_K", context: int = 4096, on: Calibration = MACHINE):
    found = estimate(catalog.find(name), number_format, context, on)
    assert found is not None
    return found


def test_the_embedded_model_costs_what_was_measured() -> None:
    found = of("smollm2:135m", "Q4_1", context=0)
    assert found.weights == 98_362_432 and found.cache == 0
    assert found.tokens_per_second == pytest.approx(100, 1e-4)
    assert found.read_tokens_per_second == pytest.approx(500, 1e-4)


def test_memory_is_weights_cache_and_engine() -> None:
    entry = catalog.find("llama3.2:1b")
    found = of("llama3.2:1b")
    assert found.weights == entry.size * 4.5 // 8 and found.bits == 4.5
    assert found.cache == 4096 * 16 * 2 * 8 * 64 * 2
    assert found.engine == 60_000_000 + 128256 * VOCABULARY_BYTES
    assert found.memory == found.weights + found.cache + found.engine


def test_fewer_bits_are_faster_by_little_until_memory_is_too_slow() -> None:
    """Unpacking costs most of what fewer bytes save, until the bytes cannot be delivered in time."""
    wide, narrow = of("llama3.2:1b", FORMATS[0]), of("llama3.2:1b", FORMATS[-1])
    assert 1.05 < narrow.tokens_per_second / wide.tokens_per_second < 1.8 < wide.weights / narrow.weights
    starved = Calibration(1e9, 100e9, 2, token_seconds=0.09, read_seconds=0.002)
    speeds = [of("llama3.2:1b", name, on=starved).tokens_per_second for name in FORMATS]
    assert speeds == sorted(speeds) and speeds[-1] > 1.4 * speeds[0]
    short, long = (of("llama3.2:1b", context=tokens, on=starved) for tokens in (512, 65536))
    assert long.tokens_per_second < short.tokens_per_second
    assert of("llama3.2:3b").tokens_per_second < of("llama3.2:1b").tokens_per_second / 2


def test_of_a_mixture_only_the_active_experts_are_read() -> None:
    mixture, dense = of("granite3.1-moe:3b"), of("llama3.2:3b")
    assert mixture.weights > 0.9 * dense.weights
    assert mixture.tokens_per_second > 2 * dense.tokens_per_second


def test_no_token_is_faster_than_memory_delivers() -> None:
    slow = Calibration(1e9, 100e9, 2, token_seconds=0.2, read_seconds=0.002)
    found = of("llama3.2:3b", "Q8_0", context=1, on=slow)
    assert found.tokens_per_second <= slow.delivered / found.weights * 1.01


def test_without_calibration_raw_figures_are_used_cautiously() -> None:
    raw = Calibration(20e9, 100e9, 2)
    found = of("llama3.2:1b", on=raw)
    assert 0 < found.tokens_per_second < raw.bandwidth / found.weights
    assert found.read_tokens_per_second == pytest.approx(0.4 * 100e9 / (2 * 973_144_064), rel=0.01)


def test_what_is_not_known_is_left_out() -> None:
    assert estimate(catalog.find("minicpm5:1b"), "Q4_K", 4096, MACHINE) is None
    unknown = of("exaone4:1.2b")
    assert unknown.cache is None and unknown.memory == unknown.weights + unknown.engine


def test_a_published_file_is_offered_as_it_is() -> None:
    assert formats_of(catalog.find("smollm2:135m")) == ("Q4_1", *FORMATS)
    assert formats_of(catalog.find("llama3.2:1b")) == FORMATS


def test_a_format_that_is_laid_out_anew_takes_its_weights_twice_and_is_read_faster() -> None:
    anew, plain = of("smollm2:135m", "Q4_0"), of("smollm2:135m", "Q4_K")
    assert anew.weights == plain.weights and anew.memory == plain.memory + anew.weights
    assert 1.6 < anew.read_tokens_per_second / plain.read_tokens_per_second < 1.7
    assert anew.tokens_per_second > plain.tokens_per_second


def test_threads_share_out_the_unpacking_and_have_the_memory_in_common() -> None:
    """What is slower by its bytes alone is slower by more with more threads, which all wait for the same memory."""
    one, eight = (Calibration(1e12, 1e12, threads, token_seconds=0.01, read_seconds=0.002) for threads in (1, 8))
    ratios = [
        of("llama3.2:1b", "Q3_K", on=on).tokens_per_second / of("llama3.2:1b", "Q6_K", on=on).tokens_per_second
        for on in (one, eight)
    ]
    assert 1 < ratios[0] < ratios[1] < 6.5625 / 3.4375


MEASURED = {
    1: {
        ("smollm2:135m", "float16"): (32.7, 188.2, 383.0),
        ("smollm2:135m", "Q8_0"): (43.2, 246.2, 257.0),
        ("smollm2:135m", "Q4_1"): (52.5, 152.4, 210.6),
        ("smollm2:135m", "Q4_0"): (69.6, 290.9, 265.3),
        ("gemma3:270m", "Q8_0"): (22.4, 220.7, 542.2),
        ("gemma3:270m", "Q4_K_M"): (22.4, 213.3, 517.1),
    },
    2: {
        ("smollm2:135m", "float16"): (52.9, 384.9, 383.1),
        ("smollm2:135m", "Q8_0"): (63.2, 502.9, 257.0),
        ("smollm2:135m", "Q4_1"): (88.6, 321.8, 210.5),
        ("smollm2:135m", "Q4_0"): (101.7, 502.5, 265.2),
        ("gemma3:270m", "Q8_0"): (35.2, 441.4, 542.1),
        ("gemma3:270m", "Q4_K_M"): (35.8, 446.1, 516.9),
    },
}
"""By threads: tokens per second of writing and reading, and megabytes, as benchmarks/choose_estimates.py found them."""

CALIBRATED = {
    1: Calibration(10e9, 80e9, 1, token_seconds=1 / 52.7, read_seconds=1 / 160.0, memory=65_100_000),
    2: Calibration(20e9, 160e9, 2, token_seconds=1 / 96.0, read_seconds=1 / 322.6, memory=65_100_000),
}


@pytest.mark.parametrize("threads", MEASURED)
@pytest.mark.parametrize("subject", MEASURED[1])
def test_what_one_machine_was_measured_to_do_is_met(subject: tuple[str, str], threads: int) -> None:
    """A Xeon with AVX-512; one thread by the processor's seconds, two by the clock of a quiet machine."""
    writes, reads, memory = MEASURED[threads][subject]
    found = of(*subject, 512, CALIBRATED[threads])
    assert found.tokens_per_second == pytest.approx(writes, rel=0.2)
    assert found.read_tokens_per_second == pytest.approx(reads, rel=0.15)
    assert found.memory / 1e6 == pytest.approx(memory, rel=0.05)
