"""The timing of the server's start waits for an answer, judges the slowest start, and leaves no server behind."""

import json

import psutil
import pytest


def test_starts_are_timed(benchmark, capsys):
    module, before = benchmark("serve_start"), psutil.Process().children()
    code = module.main(["--runs", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    rows = {row["command"]: row for row in found["results"]}
    assert set(rows) == set(module.COMMANDS)
    assert all(row["processor"] > 0 and 0 < row["median"] == row["most"] for row in rows.values())
    assert found["holds"] == (rows["smidgen serve"]["most"] <= 5) and code == (not found["holds"])
    assert psutil.Process().children() == before


def test_a_server_that_ends_is_no_start(benchmark, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="did not answer"):
        benchmark("serve_start").started(["-c", "pass"], str(tmp_path))
