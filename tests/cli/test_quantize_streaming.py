"""``smidgen quantize`` from disk: by itself where memory is short, when asked, and not where it cannot."""

from __future__ import annotations

import json

import pytest

from smidgen.cli import _step
from smidgen.cli.main import main

Q4_0 = ["--format", "q4_0", "--windows", "1", "--quiet"]


def test_from_disk_the_file_is_the_same_and_nothing_else_is_left(tiny_gguf, tiny_folder, tmp_path, capsys):
    for name, words in (("a", ["--no-stream"]), ("b", ["--stream"])):
        out = str(tmp_path / f"{name}.gguf")
        # The tied embedding is left out: from disk it goes by the head alone.
        words = [*words, "--embedding-format", "q8_0", "--solver", "nearest"]
        assert main(["quantize", str(tiny_gguf), *Q4_0, *words, "--out", out]) == 0, capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"a.gguf", "b.gguf"}
    assert (tmp_path / "a.gguf").stat().st_size == (tmp_path / "b.gguf").stat().st_size

    assert main(["quantize", str(tiny_folder), *Q4_0, "--stream", "--out", str(tmp_path / "made")]) == 0
    assert {"model.gguf", "smidgen.json", "LICENSE"} <= {path.name for path in (tmp_path / "made").iterdir()}


def test_it_is_chosen_where_the_model_does_not_fit(tiny_gguf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_step, "FIXED_MEMORY", 1 << 50)
    out = ["--out", str(tmp_path / "a.gguf")]
    assert main(["quantize", str(tiny_gguf), *Q4_0, *out, "--no-stream"]) == 2
    assert main(["quantize", str(tiny_gguf), "--fit", "1MB", "--windows", "1", "--quiet", *out]) == 2
    assert "are free" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["quantize", str(tiny_gguf), *Q4_0, *out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"]["operation"] == "quantize"


@pytest.mark.parametrize("words", [["--fit", "1MB"], ["--format", "integer:bits=4,group=32"]])
def test_what_cannot_be_done_from_disk_is_refused(words, tiny_gguf, tmp_path, capsys):
    assert main(["quantize", str(tiny_gguf), *words, "--stream", "--out", str(tmp_path / "made")]) == 2
    assert "--format" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_too_little_memory_for_one_block_is_told(tiny_gguf, tmp_path, capsys):
    out = ["--out", str(tmp_path / "a.gguf"), "--max-memory", "100MB"]
    assert main(["quantize", str(tiny_gguf), *Q4_0, *out]) == 2
    assert "One block at a time needs" in capsys.readouterr().err and not list(tmp_path.iterdir())
