"""The comparison with llama.cpp's quantizer, on a random model small enough to store in seconds."""

import argparse
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
def peer(benchmark):
    return benchmark("_llama_cpp")


def test_both_sides_are_made_and_judged(benchmark, tmp_path, capsys):
    compare = benchmark("quantize_vs_llamacpp")
    safetensors.write(build_model(), tmp_path / "tiny")
    calibrate, text = tmp_path / "calibrate.txt", tmp_path / "text.txt"
    calibrate.write_text(inspect.getsource(argparse))
    text.write_text(inspect.getsource(runpy))
    words = ["--model", tmp_path / "tiny", "--calibrate", calibrate, "--text", text, "--work", tmp_path / "work"]
    words += ["--windows", 1, "--calibration-windows", 2, "--length", 128, "--threads", 1]
    words += ["--preset", "iq4_nl", "--json"]
    code = compare.main([str(word) for word in words])
    found = json.loads(capsys.readouterr().out)
    (entry,) = found["results"]
    theirs, ours = entry["llama_cpp"], entry["smidgen"]
    assert code == (0 if found["holds"] else 1) and found["shared_with_calibration"] < 0.1
    assert 0.9 * theirs["bytes"] < ours["bytes"] <= theirs["bytes"]
    assert entry["kl_ratio"] == pytest.approx(ours["kl_mean"] / theirs["kl_mean"]) and ours["kl_mean"] > 0
    assert theirs["windows"] == 1 and theirs["tokens"] == ours["tokens"] == 63
    assert all(side["seconds"] > 0 and side["peak_memory"] > 10**8 for side in (theirs, ours))
    assert {each.format for each in gguf.read(Path(theirs["path"])).tensors.values()} == {"IQ4_NL", "Q8_0", "F32"}
    lines = list(compare.table([entry]))
    assert "stored by" in lines[0] and len(lines) == 3


def test_importance_changes_what_llama_cpp_stores(peer):
    model = build_model()
    windows = torch.randint(3, 400, (4, 32), generator=torch.Generator().manual_seed(1))
    importance = peer.importances(model, windows)
    assert set(importance) == {name for name, part in model.anatomy.matrices().items() if part in ("attention", "mlp")}
    name = "model.layers.0.mlp.down_proj.weight"
    weight = model.weight(name).detach()
    weighted, plain = (peer.rounded(weight, "iq4_nl", each) for each in (importance[name], None))
    error = {
        kind: float(((formats.find("iq4_nl").unpack(each.data) - weight).square() * importance[name]).sum())
        for kind, each in (("weighted", weighted), ("plain", plain))
    }
    assert error["weighted"] < error["plain"]


def test_presets_give_each_matrix_what_llama_cpp_gives_it(peer):
    """As ``llama-quantize`` does it for 30 blocks, with rows of 256 and rows that blocks of 256 do not divide."""
    model = build_model(
        num_hidden_layers=30, hidden_size=96, intermediate_size=256, num_attention_heads=3, num_key_value_heads=1
    )
    chosen = peer.types(model, "q4_k_m")
    values = [chosen[block.projections["value"].weight] for block in model.anatomy.blocks]
    downs = [chosen[block.projections["down"].weight] for block in model.anatomy.blocks]
    more = [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]
    assert [index for index, name in enumerate(values) if name == "q8_0"] == more, "q6_k falls back for rows of 96"
    assert [index for index, name in enumerate(downs) if name == "q6_k"] == more
    assert chosen["model.embed_tokens.weight"] == "q8_0"
    assert chosen["model.layers.4.mlp.up_proj.weight"] == "q5_0", "q4_k falls back"
    zero = peer.types(model, "q4_0")
    assert [zero[f"model.layers.{index}.mlp.down_proj.weight"] for index in (0, 2, 3)] == ["q4_1", "q4_1", "q4_0"]
    assert zero["model.embed_tokens.weight"] == "q8_0"


def test_a_missing_model_is_said_plainly(benchmark, tmp_path, capsys):
    compare = benchmark("quantize_vs_llamacpp")
    assert compare.main(["--model", str(tmp_path / "none.gguf"), "--work", str(tmp_path)]) == 2
    assert "none.gguf" in capsys.readouterr().err
