"""A tiny model on disk, and a way to kill work in the middle, again and again."""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import runpy
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from smidgen.export import gguf
from smidgen.models.model import Model
from smidgen.recipe import planner, proof

_SHARED = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))
build_model: Callable[..., Model] = _SHARED["build_model"]

SOURCE = {"num_hidden_layers": 4, "max_position_embeddings": 512, "initializer_range": 0.08}
MODULES = (argparse, logging, typing)
FEW_STEPS = {"healing": 10, "tuning": 8}
MEASURED_WINDOWS, MEASURING_SECONDS = 4, 3.0
HURRY = f"""
from smidgen.recipe import planner, proof
planner.MOST_STEPS, proof.MOST_WINDOWS, proof.FIXED_SECONDS = {FEW_STEPS}, {MEASURED_WINDOWS}, {MEASURING_SECONDS}
"""

# Runs a job in forked children. Each child that is to be killed gets SIGKILL a random while after a random event, so
# that moments lie everywhere: between steps, inside them, inside the writing of a file.
DRIVER = """
import json, os, random, signal, sys, threading, time, runpy
job = runpy.run_path(sys.argv[1])["job"]
kills, seed, events = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
generator, seen = random.Random(seed), []

def child(limit, delay):
    pid = os.fork()
    if pid == 0:
        count = 0
        def watch(event):
            nonlocal count
            count += 1
            if count == limit:
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        job(watch)
        print("events", count)
        sys.stdout.flush()
        os._exit(0)
    return os.waitpid(pid, 0)[1]

for _ in range(kills):
    # What earlier ones kept is not done again: each goes on for less than its share of the whole.
    status = child(generator.randrange(1, max(2, events // kills)), generator.random() * 0.1)
    seen.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
    assert seen[-1] == 9 or status == 0, status
assert child(-1, 0) == 0
print(json.dumps(seen))
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Model]:
    """Builds tiny random models."""
    return build_model


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 4 blocks as GGUF, float16, with a card and a licence. Read only."""
    path: Path = tmp_path_factory.mktemp("source") / "tiny.gguf"
    gguf.write(build_model(**SOURCE), path)
    (path.parent / "README.md").write_text("---\nlicense: mit\nbase_model: org/tiny\n---\n", encoding="utf-8")
    (path.parent / "LICENSE").write_text("Do as you like.\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's own text: the beginnings of some modules of the standard library."""
    path: Path = tmp_path_factory.mktemp("data") / "modules.txt"
    path.write_text("\n\n".join(inspect.getsource(module)[:30_000] for module in MODULES), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def hurry() -> str:
    """Lines of a script that do what `hurried` does."""
    return HURRY


@pytest.fixture(scope="session")
def hurried() -> Iterator[None]:
    """Few training steps, few measured windows, and little time kept for measuring: what takes long on a real model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "MOST_STEPS", FEW_STEPS)
        patch.setattr(planner, "STEPS_WITHOUT_CLOCK", FEW_STEPS)
        patch.setattr(proof, "MOST_WINDOWS", MEASURED_WINDOWS)
        patch.setattr(proof, "FIXED_SECONDS", MEASURING_SECONDS)
        yield


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[int]]:
    """Runs ``job(progress)`` of a script, killed so many times before it may end; returns what ended each child."""

    def run(script: str, *, kills: int, events: int, seed: int) -> list[int]:
        folder = tmp_path_factory.mktemp("killed")
        (folder / "job.py").write_text(script, encoding="utf-8")
        (folder / "driver.py").write_text(DRIVER, encoding="utf-8")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(
            [sys.executable, str(folder / "driver.py"), str(folder / "job.py"), str(kills), str(seed), str(events)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        ended: list[int] = json.loads(done.stdout.strip().splitlines()[-1])
        return ended

    return run
