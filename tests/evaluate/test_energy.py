"""Energy counters of processor and GPUs: found, summed without counting twice, past their end, absent, forbidden."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from smidgen.evaluate.energy import FOLDER, GPU, PROCESSOR, Meter, energy_of


class Refused(Exception):
    """What the stand-in for NVML raises."""


class Nvml(SimpleNamespace):
    """NVML with GPUs whose counts of millijoules stand in `counts`; None where a GPU counts none."""

    NVMLError = Refused

    def __init__(self, *counts: int | None, driver: bool = True) -> None:
        super().__init__(counts=list(counts), driver=driver)

    def nvmlInit(self) -> None:
        if not self.driver:
            raise Refused("Library Not Found")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.counts)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if self.counts[handle] is None:
            raise Refused("Not Supported")
        return self.counts[handle]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has in GPUs stays out of the tests that do not ask for them."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr("smidgen.evaluate.energy.shutil.which", lambda name: None)


def install(monkeypatch: pytest.MonkeyPatch, library: Nvml) -> Nvml:
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


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
    assert meter.reason == "" and meter.since() == {PROCESSOR: 0}
    one.write_text("8000000")
    two.write_text("500000")
    part.write_text("2000000")
    whole.write_text("90000000")
    assert meter.since() == pytest.approx({PROCESSOR: 3.5})
    assert meter.since() == {PROCESSOR: 0}


def test_a_counter_that_began_anew_is_carried_over(tmp_path: Path) -> None:
    count = counter(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    meter = Meter(tmp_path)
    count.write_text("2000000")
    assert meter.since() == pytest.approx({PROCESSOR: 3.0})


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert "no RAPL counters" in Meter(tmp_path).reason
    counter(tmp_path, "intel-rapl:0", "package-0", 1).unlink()
    meter = Meter(tmp_path)
    assert "root only" in meter.reason and meter.since() == {}
    found = energy_of(meter.since(), 100, meter.reason)
    assert found.joules is None and found.joules_per_token is None and "root only" in found.sentence


def test_energy_is_shared_out_over_tokens() -> None:
    found = energy_of({PROCESSOR: 64.0}, 128, "")
    assert found.joules_per_token == 0.5 and found.to_dict()["tokens"] == 128


def test_gpus_are_summed_and_told_beside_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = install(monkeypatch, Nvml(5_000, 70_000, None))
    meter = Meter(tmp_path)
    assert meter.reason == meter.gpu_reason == "" and meter.parts == (GPU,)
    library.counts[:2] = [8_000, 71_000]
    assert meter.since() == {GPU: 4.0} and meter.since() == {GPU: 0.0}
    count = counter(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = Meter(tmp_path)
    count.write_text("2000000")
    library.counts[0] = 16_000
    found = energy_of(meter.since(), 10, meter.reason)
    assert found.joules == pytest.approx(10.0) and found.to_dict()["parts"] == {PROCESSOR: 2.0, GPU: 8.0}
    assert "0.20 for the whole processor, 0.80 for the whole GPU" in found.sentence


def test_a_gpu_that_is_lost_meanwhile_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = install(monkeypatch, Nvml(5_000))
    meter = Meter(tmp_path)
    library.counts[0] = None
    assert meter.since() == {GPU: 0.0}


def test_a_gpu_that_cannot_be_read_is_said_and_one_that_is_not_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Meter(tmp_path).gpu_reason == ""
    monkeypatch.setattr("smidgen.evaluate.energy.shutil.which", lambda name: f"/usr/bin/{name}")
    without = Meter(tmp_path)
    assert "pip install 'smidgen[energy]'" in without.gpu_reason and "no RAPL counters" in without.reason
    install(monkeypatch, Nvml(None))
    assert "since Volta" in Meter(tmp_path).gpu_reason
    install(monkeypatch, Nvml(1, driver=False))
    meter = Meter(tmp_path)
    assert meter.gpu_reason == "" and meter.parts == () and meter.since() == {}


def test_nvml_as_published_has_what_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml")
    published: Any = importlib.import_module("pynvml")
    assert isinstance(published, ModuleType) and issubclass(published.NVMLError, Exception)
    asked = [name for name in vars(Nvml) if name.startswith("nvml")]
    assert len(asked) == 4 and all(callable(getattr(published, name)) for name in asked)
