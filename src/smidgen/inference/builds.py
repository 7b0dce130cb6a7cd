"""What builds of llama.cpp are at hand, which processor features they use, and how fast one on PATH is, measured."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

SERVER = "llama-server"
"""The program of llama.cpp that may be on PATH, built for this processor by whoever put it there."""

WRITTEN = 24
"""Tokens that a build is asked to write."""

_ROUNDS = 2
_PATIENCE = 60.0
_FEATURE = re.compile(r"\b([A-Z][A-Z0-9_]+) = 1\b")
_VERSION = re.compile(r"version: *(\S+(?: \(\w+\))?)")
_ASK = (
    "import ctypes, sys, xllamacpp.xllamacpp as package; library = ctypes.CDLL(package.__file__); "
    "ask = library.llama_print_system_info; ask.restype = ctypes.c_char_p; sys.stdout.write(ask().decode())"
)


@dataclass(frozen=True)
class Build:
    """One build of llama.cpp.

    Attributes:
        name: "xllamacpp" or "llama-server".
        where: The package or the program's path.
        version: Its version, None where it does not say.
        features: Processor features that it uses, as it names them; empty where it does not say.
        tokens_per_second: How fast it wrote; None where it was not measured.
        reason: Why it was not measured.
    """

    name: str
    where: str
    version: str | None = None
    features: tuple[str, ...] = ()
    tokens_per_second: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def features_in(text: str) -> tuple[str, ...]:
    """Return the processor features that a build's own description says it uses.

    Example:
        >>> features_in("CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | OPENMP = 1 | ")
        ('SSE3', 'AVX2', 'OPENMP')
    """
    return tuple(dict.fromkeys(_FEATURE.findall(text)))


def bundled(version: str | None) -> Build | None:
    """Ask the library of the package xllamacpp what it was built for, in a process of its own.

    Args:
        version: The package's version; None where it is not installed.
    """
    if version is None:
        return None
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
        return Build("xllamacpp", "the Python package", version, features_in(done.stdout))
    return Build("xllamacpp", "the Python package", version, reason="its library cannot be opened")


def on_path() -> Path | None:
    """Return the llama-server on PATH, if there is one."""
    found = shutil.which(SERVER)
    return Path(found) if found else None


def measure_server(program: Path, model: Path | None, *, threads: int) -> Build:
    """Start a llama-server with a model, let it write, and stop it; what fails is said, not raised.

    Args:
        program: The llama-server.
        model: A GGUF file; None where none is at hand.
        threads: Threads to compute with.
    """
    if model is None:
        return Build(SERVER, str(program), reason="no model is at hand to measure it with")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        reason, speed = None, None
        try:
            with _running(program, model, threads, log) as address:
                speed = max(_write(address) for _ in range(_ROUNDS))
        except KeyError as error:
            reason = f"its answer has no {error}"
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
        log.seek(0)
        said = log.read()
    version = _VERSION.search(said)
    return Build(SERVER, str(program), version[1] if version else None, features_in(said), speed, reason)


@contextmanager
def _running(program: Path, model: Path, threads: int, log: IO[str]) -> Iterator[str]:
    """Keep a server running while the block runs; yields its address.

    Raises:
        TimeoutError: It did not answer in time.
        OSError: It cannot be started, or ended by itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-m", str(model), "--host", "127.0.0.1", "--port", str(port), "-t", str(threads), "-c", "512"]
    process = subprocess.Popen([str(program), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _await(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], address: str) -> None:
    import httpx

    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise OSError(f"it ended with exit code {process.returncode} before it answered")
        with suppress(httpx.HTTPError):
            if httpx.get(f"{address}/health", timeout=2, trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"it did not answer within {_PATIENCE:.0f} s")


def _write(address: str) -> float:
    """Let a server write and return its own figure of tokens per second.

    Raises:
        OSError: It does not answer.
        ValueError, KeyError: Its answer is none of llama.cpp.
    """
    import httpx

    asked = {"prompt": "Once", "n_predict": WRITTEN, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
    try:
        answer = httpx.post(f"{address}/completion", json=asked, timeout=_PATIENCE, trust_env=False)
    except httpx.HTTPError as error:
        raise OSError(f"it does not answer: {error}") from error
    return float(answer.json()["timings"]["predicted_per_second"])
