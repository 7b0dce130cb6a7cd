"""The child process: that it comes, that it goes, and what it says when it cannot."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound
from smidgen.inference.engine import Message, open_engine
from smidgen.inference.engines.llama_cpp import LlamaCpp
from smidgen.inference.options import GenerationOptions

pytestmark = pytest.mark.index
GREEDY = GenerationOptions(temperature=0, num_predict=3)


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_it_answers_says_what_it_holds_and_prints_nothing(
    smollm2_gguf: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_engine(smollm2_gguf, threads=1, context=128) as engine:
        assert isinstance(engine, LlamaCpp)
        answer = "".join(chunk.text for chunk in engine.complete("The capital of France is", GREEDY))
        assert answer.startswith(" Paris")
        assert engine.resident_bytes() > smollm2_gguf.stat().st_size // 2
        with pytest.raises(InvalidInput, match="context size"):
            list(engine.complete("word " * 300, GREEDY))
        with pytest.raises(InvalidInput, match="without messages"):
            list(engine.chat([], GREEDY))
        pid = engine._server.child.process.pid
    assert not psutil.pid_exists(pid)
    assert engine.resident_bytes() == 0
    assert capfd.readouterr() == ("", "")


def test_a_seed_makes_sampling_repeatable(smollm2_gguf: Path) -> None:
    options = GenerationOptions(seed=7, num_predict=8)
    with open_engine(smollm2_gguf, threads=1, context=128) as engine:
        answers = [[chunk.text for chunk in engine.chat([Message("user", "Hello")], options)] for _ in range(2)]
    assert answers[0] == answers[1]


def test_a_file_that_llama_cpp_refuses(smollm2_gguf: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with smollm2_gguf.open("rb") as whole:
        cut.write_bytes(whole.read(5_000_000))
    with pytest.raises(EngineFailed, match=r"cannot load cut\.gguf.*file bounds"):
        open_engine(cut)


def test_a_child_that_dies_during_an_answer(smollm2_gguf: Path) -> None:
    with open_engine(smollm2_gguf, threads=1, context=512) as engine:
        assert isinstance(engine, LlamaCpp)
        answer = engine.complete("Once upon a time", GenerationOptions(temperature=0, num_predict=400))
        next(answer)
        os.kill(engine._server.child.process.pid, signal.SIGKILL)
        with pytest.raises(EngineFailed, match=r"ended by signal 9|broke off"):
            list(answer)


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_the_child_dies_with_a_killed_parent(smollm2_gguf: Path) -> None:
    program = (
        "import sys, time; from smidgen.inference.engine import open_engine; "
        "engine = open_engine(sys.argv[1], threads=1, context=64); "
        "print(engine._server.child.process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, smollm2_gguf], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert psutil.pid_exists(child)
        parent.kill()
    assert gone(child)


@pytest.mark.skipif(sys.platform == "win32", reason="a program here is a script with a first line")
def test_an_own_llama_server_is_driven_and_ends_with_its_engine(smollm2_gguf: Path, tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text(
        f"""#!{sys.executable}
import os, sys, time, xllamacpp
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.port = given["--model"], int(given["--port"])
parameters.n_ctx, parameters.cpuparams.n_threads = int(given["--ctx-size"]), int(given["--threads"])
parameters.api_keys = [os.environ["LLAMA_API_KEY"]]
server = xllamacpp.Server(parameters)
time.sleep(120)
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with LlamaCpp(smollm2_gguf, threads=1, context=64, executable=str(program)) as engine:
        assert "".join(chunk.text for chunk in engine.complete("The capital of France is", GREEDY)).startswith(" Paris")
        inner = psutil.Process(engine._server.child.process.pid).children()
        assert len(inner) == 1
    assert gone(inner[0].pid)


def test_an_own_llama_server_that_is_missing_or_fails(
    smollm2_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMIDGEN_LLAMA_SERVER", str(tmp_path / "none"))
    with pytest.raises(ReferenceNotFound, match="no program"):
        open_engine(smollm2_gguf)
    monkeypatch.setenv("SMIDGEN_LLAMA_SERVER", "false")
    with pytest.raises(EngineFailed, match="ended with exit code 1"):
        open_engine(smollm2_gguf)
