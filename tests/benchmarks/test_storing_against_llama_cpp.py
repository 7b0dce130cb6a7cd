"""The comparison with llama.cpp's quantizer, on a random model small enough to store in seconds."""

import argparse
import importlib.util
import inspect
import json
import runpy
from pathlib import Path

import pytest
import torch

from smidgen import formats
from smidgen.export import safetensors
from smidgen.models.checkpoint import gguf

ROOT = Path(__file__).parents[2]
build_model = runpy.run_path(str(ROOT / "tests" / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("storing", ROOT / "benchmarks" / "storing_against_llama_cpp.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_sides_are_made_and_judged(benchmark, tmp_path, capsys):
    safetensors.write(build_model(), tmp_path / "tiny")
    calibrate, text = tmp_path / "calibrate.txt", tmp_path / "text.txt"
    calibrate.write_text(inspect.getsource(argparse))
    text.write_text(inspect.getsource(runpy))
    words = ["--model", tmp_path / "tiny", "--calibrate", calibrate, "--text", text, "--work", tmp_path / "work"]
    words += ["--windows", 1, "--calibration-windows", 2, "--length", 128, "--threads", 1, "--only", "preset", "--json"]
    code = benchmark.main([str(word) for word in words])
    found = json.loads(capsys.readouterr().out)
    (entry,) = found["results"]
    peer, ours = entry["llama_cpp"], entry["smidgen"]
    assert code == (0 if found["holds"] else 1) and found["shared_with_calibration"] < 0.1
    assert 0.9 * peer["bytes"] < ours["bytes"] <= peer["bytes"]
    assert entry["kl_ratio"] == pytest.approx(ours["kl_mean"] / peer["kl_mean"]) and ours["kl_mean"] > 0
    assert peer["windows"] == 1 and peer["tokens"] == ours["tokens"] == 63
    (file,) = (tmp_path / "work").glob("peer-*.gguf")
    assert {each.format for each in gguf.read(file).tensors.values()} == {"IQ4_NL", "Q8_0", "F32"}
    assert "stored by" in next(benchmark.table([entry])) and len(list(benchmark.table([entry]))) == 3


def test_importance_changes_what_llama_cpp_stores(benchmark):
    model = build_model()
    windows = torch.randint(3, 400, (4, 32), generator=torch.Generator().manual_seed(1))
    importance = benchmark.importances(model, windows)
    assert set(importance) == {name for name, part in model.anatomy.matrices().items() if part in ("attention", "mlp")}
    name = "model.layers.0.mlp.down_proj.weight"
    weight = model.weight(name).detach()
    weighted, plain = (benchmark.round_by_llama_cpp(weight, "iq4_nl", each) for each in (importance[name], None))
    error = {
        kind: float(((formats.find("iq4_nl").unpack(each.data) - weight).square() * importance[name]).sum())
        for kind, each in (("weighted", weighted), ("plain", plain))
    }
    assert error["weighted"] < error["plain"]


def test_a_missing_model_is_said_plainly(benchmark, tmp_path, capsys):
    assert benchmark.main(["--model", str(tmp_path / "none.gguf"), "--work", str(tmp_path)]) == 2
    assert "none.gguf" in capsys.readouterr().err
