"""The scripts in examples/ run as they stand, on models small enough to do so in seconds."""

import argparse
import inspect
import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from smidgen.export import gguf, safetensors
from smidgen.models.store import Store

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb"))
PATIENT = """
import os, runpy, sys, time, urllib.request
import psutil

def sleep(seconds, real=time.sleep):
    # A busy machine may need longer than an example waits.
    while seconds == 5:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(os.environ["OLLAMA_HOST"])
            return
        except OSError:
            real(0.05)
    real(seconds)

time.sleep = sleep
try:
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
finally:
    for child in psutil.Process().children(recursive=True):
        print("still running:", *child.cmdline()[-2:])
        child.terminate()
"""
build_model = runpy.run_path(str(Path(__file__).parent / "shrink" / "conftest.py"))["build_model"]


def ran(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def chained(path: Path, home: Path, model: Path) -> str:
    """Run a program that starts its own server, with a model that says little, and return what it printed."""
    Store(home).add("smollm2:135m", {model.name: model.resolve()}, {"parameters": {"num_predict": 6}}, link=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"SMIDGEN_HOME": str(home), "OLLAMA_HOST": address, "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", PATIENT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def code_of(notebook: Path) -> str:
    """Return a notebook's code as a program: without what installs, other commands run as the shell would."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    lines = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code").splitlines()
    kept = [line for line in lines if not line.startswith("%pip install ")]
    return "\n".join(
        f"subprocess.run({line[1:].split()}, check=True)" if line.startswith("!") else line for line in kept
    )


def test_every_example_is_tested_here():
    assert len(SCRIPTS) >= 4
    assert [name for name in SCRIPTS if f'"{name}"' not in Path(__file__).read_text()] == []


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


def test_compare_models(tmp_path):
    tiny, cut = tmp_path / "tiny.gguf", tmp_path / "cut.gguf"
    gguf.write(build_model(), tiny)
    gguf.write(build_model(seed=1), cut)
    report = tmp_path / "report.html"
    done = ran("compare_models.py", tiny, cut, "--tokens", 8, "--report", report)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hypotenuse" in done.stdout and "tokens/s, wrong" in done.stdout and " | " in done.stdout
    assert "A: The others are set against it" in done.stdout and "<title>2 models compared" in report.read_text()
    done = ran("compare_models.py", tiny)
    assert done.returncode == 1 and "two models at least" in done.stderr and "Traceback" not in done.stderr


def test_models_of_other_tokens_and_missing_files_are_said_plainly(tmp_path):
    for name, vocabulary in (("source.gguf", 352), ("other.gguf", 400)):
        gguf.write(build_model(vocab_size=vocabulary), tmp_path / name)
    text = tmp_path / "words.txt"
    text.write_text(inspect.getsource(runpy))
    source, other, none = (tmp_path / name for name in ("source.gguf", "other.gguf", "none.gguf"))
    for file, said in ((other, "do not share their tokens"), (none, "none.gguf")):
        done = ran("compare_two_files.py", source, source, file, "--text", text, "--windows", 1)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


def answers(said: str) -> list[str]:
    """Return what was printed beside what the commands say."""
    ours = ("Listening at", "smollm2:135m is in the store", "Chat with it:", "still running:")
    return [line for line in said.splitlines() if line.strip() and not line.startswith(ours)]


def test_langchain_chain(tmp_path, smollm2_gguf):
    said = chained(ROOT / "examples" / "langchain_chain.py", tmp_path, smollm2_gguf)
    assert answers(said) and "Listening at" in said and "still running" not in said


def test_langchain_chain_in_a_notebook(tmp_path, smollm2_gguf):
    notebook = ROOT / "examples" / "langchain_chain.ipynb"
    first = next(cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code")
    assert first["source"] == ["%pip install -q smidgen langchain-ollama"]
    program = tmp_path / "notebook.py"
    program.write_text(code_of(notebook), encoding="utf-8")
    said = chained(program, tmp_path, smollm2_gguf)
    assert answers(said) and "still running: " in said  # the server ends with the notebook


@pytest.mark.slow
def test_compare_the_real_model_with_itself(smollm2_gguf, tmp_path):
    text = tmp_path / "words.txt"
    text.write_text(inspect.getsource(argparse))
    done = ran("compare_two_files.py", smollm2_gguf, smollm2_gguf, smollm2_gguf, "--text", text, "--windows", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be told apart" in done.stdout
