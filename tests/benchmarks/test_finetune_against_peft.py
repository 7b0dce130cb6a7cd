"""The comparison with plain PEFT and Trainer, on a tiny random model."""

import importlib.util
import json
import runpy
from pathlib import Path

import pytest
import torch

from smidgen.export import safetensors

ROOT = Path(__file__).parents[2]
build_model = runpy.run_path(str(ROOT / "tests" / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("against_peft", ROOT / "benchmarks" / "finetune_against_peft.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("part", ["ours", "theirs"])
@pytest.mark.filterwarnings("ignore")
def test_each_side_trains_and_says_how_long(part, benchmark, tmp_path, capsys):
    safetensors.write(build_model(), tmp_path / "tiny")
    words = ["--model", str(tmp_path / "tiny"), "--steps", "3", "--batch", "2", "--length", "64", "--documents", "4"]
    assert benchmark.main([*words, "--threads", "1", "--part", part]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["seconds"] > 0 and found["processor_seconds"] > 0 and found["peak"] > 1e8
    torch.set_num_threads(1)
