"""The scripts in examples/ run as they stand, on models small enough to do so in seconds."""

import argparse
import inspect
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.export import gguf, safetensors

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
build_model = runpy.run_path(str(Path(__file__).parent / "shrink" / "conftest.py"))["build_model"]


def ran(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_every_example_is_tested_here():
    assert len(SCRIPTS) >= 2
    assert [name for name in SCRIPTS if f'ran("{name}"' not in Path(__file__).read_text()] == []


def test_quantize_and_ask(tmp_path):
    safetensors.write(build_model(), tmp_path / "tiny")
    out = tmp_path / "small.gguf"
    options = ("--model", tmp_path / "tiny", "--fit", "110KB", "--windows", 1, "--out", out)
    done = ran("quantize_and_ask.py", *options, "Words?")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 80_000 < out.stat().st_size <= 110_000
    assert f"{out.stat().st_size:,} bytes" in done.stdout and "mean KL" in done.stdout and "> Words?" in done.stdout


def test_compare_two_files(tmp_path):
    source, cut = tmp_path / "source.gguf", tmp_path / "cut.gguf"
    gguf.write(build_model(), source)
    gguf.write(build_model(seed=1), cut)
    text = tmp_path / "words.txt"
    text.write_text(inspect.getsource(runpy))
    done = ran("compare_two_files.py", source, source, cut, "--text", text, "--windows", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{source} lies closer." in done.stdout and "   0.00000   100.00%" in done.stdout


def test_models_of_other_tokens_and_missing_files_are_said_plainly(tmp_path):
    for name, vocabulary in (("source.gguf", 352), ("other.gguf", 400)):
        gguf.write(build_model(vocab_size=vocabulary), tmp_path / name)
    text = tmp_path / "words.txt"
    text.write_text(inspect.getsource(runpy))
    source, other, none = (tmp_path / name for name in ("source.gguf", "other.gguf", "none.gguf"))
    for file, said in ((other, "do not share their tokens"), (none, "none.gguf")):
        done = ran("compare_two_files.py", source, source, file, "--text", text, "--windows", 1)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_compare_the_real_model_with_itself(smollm2_gguf, tmp_path):
    text = tmp_path / "words.txt"
    text.write_text(inspect.getsource(argparse))
    done = ran("compare_two_files.py", smollm2_gguf, smollm2_gguf, smollm2_gguf, "--text", text, "--windows", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be told apart" in done.stdout
