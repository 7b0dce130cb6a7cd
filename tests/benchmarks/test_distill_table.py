"""The table of losses is filled row by row, the best with more seeds, and goes on where it was stopped."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from smidgen import registry
from smidgen.export import safetensors
from smidgen.shrink.distill import losses

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def script(benchmark):
    return benchmark("distill_table")


def test_every_loss_has_a_row(script):
    named = {name for options in script.ROWS.values() for name in options["losses"]}
    assert named == set(registry.names(losses.__name__))


def test_rows_are_measured_once_and_the_best_with_more_seeds(script, tmp_path, capsys):
    torch.set_num_threads(1)
    safetensors.write(build_model(vocab_size=1024), tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--tokens", "256", "--length", "64", "--windows", "1", "--keep", "2"]
    words += ["--calibration", "2", "--rate", "1e-3", "--seeds", "2", "--work", str(tmp_path / "work")]
    words += ["--only", "soft_output forward", "--only", "hidden"]
    assert script.main([*words, "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["seeds"] for name, row in found.items()} == {
        "soft_output forward": 2,
        "hidden": 2,
        "the start, unhealed": 1,
    }
    assert found["soft_output forward"]["kl_mean"] < found["the start, unhealed"]["kl_mean"]
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}
    assert len(kept) == 5 and script.main(words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(found)
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}
