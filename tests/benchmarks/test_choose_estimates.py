"""The table of estimates holds each figure against a measurement, and says how far off the worst is."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.index
def test_estimates_stand_beside_measurements(smollm2_gguf, test_cache, monkeypatch, capsys):
    monkeypatch.setenv("SMIDGEN_HOME", str(test_cache))
    monkeypatch.syspath_prepend(str(FOLDER))
    module = runpy.run_path(str(FOLDER / "choose_estimates.py"))
    code = module["main"](["--model", "smollm2:135m:Q4_1", "--rounds", "1"])
    shown = capsys.readouterr().out
    rows = [line.split("|") for line in shown.splitlines() if line.startswith("| smollm2")]
    assert [row[3].strip().partition(",")[0] for row in rows] == ["writes", "reads", "memory"]
    ratios = [float(row[6]) for row in rows]
    assert code == (max(abs(ratio - 1) for ratio in ratios) > 0.25) and "off." in shown
