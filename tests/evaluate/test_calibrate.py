"""What a machine was measured to do is kept, checked when it is read, and holds for models it was not measured with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.evaluate import calibrate
from smidgen.evaluate.calibrate import CACHE, Calibration, calibration, keep, kept
from smidgen.evaluate.estimate import estimate
from smidgen.inference.scoring import PromptScorer
from smidgen.models import catalog
from smidgen.models.reference import Reference
from smidgen.models.sources import fetch
from smidgen.models.store import Store

WITHIN = 0.25
THREADS = 1
"""With one thread the processor's seconds are those of the work, however busy the machine is."""

MEASURED = Calibration(10e9, 50e9, 2, token_seconds=0.01, read_seconds=0.002, memory=60_000_000, key="this one")


def test_what_was_measured_is_kept_for_the_next_time(tmp_path: Path) -> None:
    keep(tmp_path / "store", MEASURED)
    assert kept(tmp_path / "store", "this one") == MEASURED
    assert kept(tmp_path / "store", "another processor") is None
    assert kept(tmp_path, "this one") is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"bandwidth": 1}', '{"unknown": 1}'])
def test_a_damaged_record_is_measured_again_instead_of_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / CACHE).write_text(text, encoding="utf-8")
    assert kept(tmp_path, "this one") is None


@pytest.mark.parametrize("value", [0, -1, "NaN", "Infinity"])
def test_an_impossible_figure_is_not_believed(tmp_path: Path, value: object) -> None:
    keep(tmp_path, MEASURED)
    record = json.loads((tmp_path / CACHE).read_text())
    written = json.dumps(record | {"bandwidth": value}).replace('"NaN"', "NaN").replace('"Infinity"', "Infinity")
    (tmp_path / CACHE).write_text(written)
    assert kept(tmp_path, "this one") is None


def test_without_the_model_there_are_raw_figures_that_are_not_kept(tmp_path: Path) -> None:
    found = calibration(tmp_path, threads=1, offline=True)
    assert not found.calibrated and found.bandwidth > 1e8 and found.flops > 1e8
    assert not (tmp_path / CACHE).exists()


def test_another_machine_is_scaled_by_its_bandwidth() -> None:
    other = MEASURED.on(bandwidth=5e9)
    assert (other.token_seconds, other.read_seconds, other.flops) == (0.02, 0.004, 25e9)
    assert MEASURED.on() is MEASURED


def test_memory_delivers_at_least_what_a_model_was_seen_to_be_read_at() -> None:
    embedded = catalog.find(calibrate.EMBEDDED).bytes
    assert MEASURED.delivered == max(10e9, embedded / 0.01)
    assert replace(MEASURED, bandwidth=1e9).delivered == embedded / 0.01


@pytest.fixture(scope="module")
def measured(smollm2_gguf: Path) -> Calibration:
    return calibrate.measure(smollm2_gguf, threads=THREADS)


def seconds_of(path: Path) -> tuple[float, float, int]:
    """Seconds per written token and per read token, and peak memory, of a real model."""
    with PromptScorer(path, threads=THREADS, context=512) as scorer:
        scorer.time_decode(2)
        taken, _ = calibrate.undisturbed(lambda: scorer.time_decode(12), THREADS)
        read, _ = calibrate.undisturbed(lambda: scorer.time_prefill(64), THREADS)
        return taken / 12, read / 64, scorer.peak_rss_bytes()


@pytest.mark.index
def test_the_kept_record_answers_at_once(measured: Calibration, tmp_path: Path) -> None:
    assert measured.calibrated and measured.token_seconds and measured.read_seconds
    assert measured.read_seconds < measured.token_seconds, "a prompt is read in batches"
    keep(tmp_path, measured)
    assert calibration(tmp_path, threads=THREADS, offline=True) == measured


@pytest.mark.index
@pytest.mark.parametrize("name", ["smollm2:135m", "gemma3:270m"])
def test_estimates_are_near_what_is_measured(name: str, measured: Calibration, test_cache: Path) -> None:
    path = fetch(Reference("catalog", name), Store(test_cache)).path
    entry = catalog.find(name)
    expected = estimate(entry, entry.dequantised_from or "", 512, measured)
    assert expected is not None
    seconds, reading, memory = seconds_of(path)
    assert expected.tokens_per_second == pytest.approx(1 / seconds, rel=WITHIN)
    assert expected.read_tokens_per_second == pytest.approx(1 / reading, rel=WITHIN)
    assert expected.memory == pytest.approx(memory, rel=WITHIN)
