"""The processor's energy counters: found, summed without counting twice, past their end, absent, forbidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.evaluate.energy import FOLDER, Meter, energy_of


def counter(root: Path, name: str, said: str, count: int) -> Path:
    folder = root / FOLDER / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{said}\n")
    (folder / "energy_uj").write_text(f"{count}\n")
    (folder / "max_energy_range_uj").write_text("1000000000\n")
    return folder / "energy_uj"


def test_packages_are_summed_and_their_parts_are_not_counted_again(tmp_path: Path) -> None:
    one = counter(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    two = counter(tmp_path, "intel-rapl:1", "package-1", 0)
    part = counter(tmp_path, "intel-rapl:0:0", "core", 0)
    whole = counter(tmp_path, "intel-rapl:2", "psys", 0)
    meter = Meter(tmp_path)
    assert meter.reason == "" and meter.since() == 0
    one.write_text("8000000")
    two.write_text("500000")
    part.write_text("2000000")
    whole.write_text("90000000")
    assert meter.since() == pytest.approx(3.5)
    assert meter.since() == 0


def test_a_counter_that_began_anew_is_carried_over(tmp_path: Path) -> None:
    count = counter(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    meter = Meter(tmp_path)
    count.write_text("2000000")
    assert meter.since() == pytest.approx(3.0)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert "no RAPL counters" in Meter(tmp_path).reason
    counter(tmp_path, "intel-rapl:0", "package-0", 1).unlink()
    meter = Meter(tmp_path)
    assert "root only" in meter.reason and meter.since() == 0
    found = energy_of(meter.since(), 100, meter.reason)
    assert found.joules is None and found.joules_per_token is None and "root only" in found.sentence


def test_energy_is_shared_out_over_tokens() -> None:
    found = energy_of(64.0, 128, "")
    assert found.joules_per_token == 0.5 and found.to_dict()["tokens"] == 128
