"""The table of structures and criteria is filled row by row, and goes on where it was stopped."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from smidgen.export import safetensors
from smidgen.shrink.prune import criteria

ROOT = Path(__file__).parents[2]
build_model = runpy.run_path(str(ROOT / "tests" / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def script(benchmark):
    return benchmark("prune_table")


def test_every_structure_and_criterion_has_a_row(script):
    asked, model = script.arguments([]), build_model()
    rows = list(script.cuts(asked, model))
    pairs = {(row.structure, row.criterion) for row in rows}
    known = {(each, name) for name in criteria.names() for each in criteria.find(name).structures}
    assert pairs == {(each, name) for each, name in known if each != "expert"}, "the model has no experts"
    assert len(rows) == len(pairs) + sum(map(len, script.VARIANTS.values()))
    assert len({(row.structure, row.criterion, script.variant(row)) for row in rows}) == len(rows)


def test_rows_are_measured_before_and_after_healing_and_kept(script, tmp_path, capsys):
    torch.set_num_threads(1)
    safetensors.write(build_model(vocab_size=1024), tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--tokens", "512", "--length", "64", "--windows", "2"]
    words += ["--calibration", "2", "--rate", "1e-3", "--work", str(tmp_path / "work")]
    chosen = ["--only", "head", "--only", "vocabulary", "--only", "synapse"]
    chosen += [word for name in ("activation", "use", "l1") for word in ("--criterion", name)]
    assert script.main([*words, *chosen, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["structure"], row["criterion"]) for row in rows} == {
        ("head", "activation"),
        ("head", "l1"),
        ("vocabulary", "use"),
        ("vocabulary", "l1"),
        ("synapse", "l1"),
    }
    for row in rows:
        assert row["before"]["bits_per_byte"] > 0
        assert (row["before"]["kl_mean"] > 1e-6) == (row["structure"] != "vocabulary")  # kept tokens stay as likely
        assert row["before"] != row["after"]
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}
    assert script.main([*words, *chosen]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(rows) and "not zero" in lines[-1]
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}
