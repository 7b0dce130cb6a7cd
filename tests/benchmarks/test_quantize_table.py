"""The table that takes storing apart: filled row by row, every step at the same bytes; it goes on where it stopped."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from smidgen import formats
from smidgen.export import safetensors

ROOT = Path(__file__).parents[2]
build_model = runpy.run_path(str(ROOT / "tests" / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def script(benchmark):
    return benchmark("quantize_table")


@pytest.fixture
def words(tmp_path):
    torch.set_num_threads(1)
    safetensors.write(build_model(vocab_size=1024), tmp_path / "model")
    said = ["--model", str(tmp_path / "model"), "--windows", "2", "--calibration", "3", "--watched", "1"]
    return [*said, "--work", str(tmp_path / "work")]


def test_every_step_keeps_within_the_same_bytes_and_rows_are_kept(script, words, tmp_path, capsys):
    asked = [*words, "--only", "steps", "--search", "2"]
    assert script.main([*asked, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    budget = rows["rounded"]["bytes"]
    assert len(rows) == 6 and all(0.9 * budget < row["bytes"] <= budget for row in rows.values())
    divergences = [row["kl_mean"] for row in rows.values()]
    assert len(set(divergences[:4])) == 4 and min(divergences) > 0
    assert rows["compensated by importance"]["kl_mean"] < rows["rounded"]["kl_mean"]
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}
    assert script.main(asked) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(rows)
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}


def test_formats_and_forecast(script, words, capsys):
    chosen = ["--only", "formats", "--format", "binary", "--format", "integer:bits=8", "--only", "forecast"]
    assert script.main([*words, *chosen, "--mixes", "3", "--json"]) == 0
    binary, integer, forecast = json.loads(capsys.readouterr().out)
    assert integer["kl_mean"] < binary["kl_mean"] and binary["bytes"] < 0.5 * integer["bytes"]
    assert set(binary["ends"].values()) == {"q8_0"} and "ends" not in integer
    assert forecast["mixes"] == len(forecast["pairs"]) == 3 and -1 <= forecast["rank_correlation"] <= 1
    assert all(formats.find(name.partition(":")[0]) for name in script.FORMATS)
