"""Formats that GGUF has no place for, from the command line to a model that reloads."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from smidgen.cli.main import main
from smidgen.models.load import load


def test_a_format_of_its_own_makes_a_folder_that_reloads(tiny_folder, tmp_path, capsys):
    spelled = "integer:bits=4,group=32"
    words = ["quantize", str(tiny_folder), "--format", spelled, "--solver", "nearest", "--windows", "1"]
    assert main([*words, "--out", str(tmp_path / "small"), "--quiet"]) == 0, capsys.readouterr().err
    again = load(str(tmp_path / "small"))
    assert {stored.format for stored in again.packed.values()} == {spelled}
    assert set(again.packed) == set(again.anatomy.matrices())
    assert not (tmp_path / "small" / "model.gguf").exists() and (tmp_path / "small" / "LICENSE").exists()


@pytest.mark.parametrize("name", ["kmeans", "hierarchical:bits=4"])
def test_a_gguf_of_it_is_refused_before_the_model_is_sought(name, tmp_path, capsys):
    words = ["quantize", "no/such-model", "--format", name, "--out", str(tmp_path / "small.gguf")]
    assert main(words) == 2
    assert f"GGUF has no place for the number format {name}" in capsys.readouterr().err


def test_a_model_whose_eyes_llama_cpp_cannot_hold_is_refused_before_it_is_quantised(
    published_tokenizer, tmp_path, capsys
):
    tiny = runpy.run_path(str(Path(__file__).parents[1] / "tiny_phi3v.py"))
    folder = tiny["write"](tmp_path / "model", published_tokenizer("phi", 512, begins=True))
    assert main(["quantize", str(folder), "--format", "q8_0", "--out", str(tmp_path / "small.gguf")]) == 2
    said = capsys.readouterr().err
    assert "llama.cpp cannot run the vision part of a Phi-3 vision" in said
    assert "quantizing" not in said and not (tmp_path / "small.gguf").exists()


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_a_folder_for_vllm(tiny_folder, tmp_path, stream):
    out = tmp_path / "small"
    words = ["quantize", str(tiny_folder), "--format", "float8", "--export", "compressed-tensors", "--out", str(out)]
    assert main([*words, "--windows", "1", "--solver", "nearest", "--quiet", stream]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["quantization_config"]["format"] == "float-quantized"
    assert {path.name for path in out.iterdir()} >= {"tokenizer.json", "LICENSE", "smidgen.json", "README.md"}
    assert not (out / "model.gguf").exists() and [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "float8", "--export", "onnx"], "compressed-tensors"),
        (["--format", "q4_0", "--export", "compressed-tensors"], "no place for the number format q4_0"),
        (["--fit", "80MB", "--export", "compressed-tensors"], "--format"),
        (["--format", "float8", "--head-format", "q8_0", "--export", "compressed-tensors"], "--head-format"),
        (["--format", "float8", "--images", "pictures", "--export", "compressed-tensors"], "and nothing else"),
    ],
)
def test_what_vllm_does_not_load_is_refused_before_the_model_is_sought(words, message, tmp_path, capsys):
    assert main(["quantize", "no/such-model", *words, "--out", str(tmp_path / "small")]) == 2
    assert message in capsys.readouterr().err
