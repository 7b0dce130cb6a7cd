"""The timing of smidgen's start reports every command and judges the medians."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "startup.py"


def test_every_command_is_timed(capsys):
    module = runpy.run_path(str(SCRIPT))
    code = module["main"](["--runs", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    entries = {entry["command"]: entry for entry in found["results"]}
    assert set(entries) == set(module["COMMANDS"])
    assert all(0 < entry["least"] <= entry["median"] <= entry["most"] for entry in entries.values())
    assert found["holds"] == all(entry["median"] <= 0.5 for entry in entries.values()) and code == (not found["holds"])
    assert entries["smidgen --help"]["ratio"] > entries["python -c pass"]["ratio"] == 1


def test_no_runs_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT))["main"](["--runs", "0"])
    assert "at least 1" in capsys.readouterr().err
