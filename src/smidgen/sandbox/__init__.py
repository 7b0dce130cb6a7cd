"""Runs generated programs so that they can harm nothing: short of time, memory, files, processes and network.

On Linux a program runs in a process of its own, with a session and a temporary folder of its own. Limits of the kernel
hold its time, memory and files; a filter of system calls (seccomp) lets it start no process, reach no other and open no
connection; Landlock lets it write in its folder only; where the system allows it, it also has a network of its own
without any connection. Elsewhere there is only the limit of time.

This protects the machine. It does not stop a program that sets out to look as if it had passed.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import psutil

_CHILD = Path(__file__).with_name("child.py")
_BUSY = 600.0  # seconds by the clock that a program may have which still computes
_ASLEEP = 20  # how often in a row, at a distance of 0.1 s, a program must be found waiting
_READ = 4096  # bytes of the child's report that are looked at


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        processor_seconds: Time on the processor.
        seconds: Time by the clock, after which a program that waits is ended.
        memory_bytes: Address space, the interpreter's own included.
        file_bytes: Size of any file that it writes.
        open_files: Files open at a time.
    """

    processor_seconds: int = 5
    seconds: float = 10.0
    memory_bytes: int = 2**30
    file_bytes: int = 2**24
    open_files: int = 64


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        passed: Whether it ran to its end without an error.
        reason: Empty where it did; else the error's last line, or what ended it.
    """

    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class Protection:
    """What holds a program here.

    Attributes:
        limits: Whether time, memory and files are limited by the kernel.
        processes: How it is kept from starting others: "seccomp", "limit" or nothing.
        network: How it is kept from the network: "seccomp and a namespace of its own", "seccomp", "namespace" or
            "Python only", which a program can get around.
        files: How it is kept from writing outside its folder: "Landlock" or nothing.
    """

    limits: bool = False
    processes: str = ""
    network: str = ""
    files: str = ""

    @property
    def enough(self) -> bool:
        """Whether programs of unknown origin may run here unasked."""
        return self.limits and bool(self.processes) and self.network not in ("", "Python only")


@cache
def protection() -> Protection:
    """Return what holds programs on this machine, found by running an empty one."""
    report = _run("", Limits())[1]
    return Protection(**report.get("held", {}))


def run(program: str, limits: Limits | None = None) -> Outcome:
    """Run a Python program to its end, or to the end of what it may use.

    Args:
        program: The source.
        limits: What it may use.

    Example:
        >>> run("assert 1 + 1 == 2").passed, run("assert 1 + 1 == 3").reason
        (True, 'AssertionError')
    """
    limits = limits or Limits()
    code, report = _run(program, limits)
    if report.get("passed"):
        return Outcome(True)
    if "error" in report:
        return Outcome(False, str(report["error"]))
    if code is None:
        return Outcome(False, f"not done after {limits.seconds:g} s")
    if code < 0 and -code == getattr(signal, "SIGXCPU", None):
        return Outcome(False, f"not done after {limits.processor_seconds} s of processor time")
    return Outcome(False, f"ended by signal {-code}" if code < 0 else f"ended early with exit code {code}")


def _run(program: str, limits: Limits) -> tuple[int | None, dict[str, Any]]:
    """Run a program in a child process; return its exit code, None where time ran out, and what the child reports."""
    token = secrets.token_hex(16)
    # The folder is for the program alone; what is said to the child and by it goes through files without names.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as request,
        tempfile.TemporaryFile() as result,
    ):
        told = {"program": program, "folder": folder, "token": token, "limits": asdict(limits)}
        request.write(json.dumps(told).encode())
        request.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-s", "-P", "-B", str(_CHILD)],
            stdin=request,
            stdout=result,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )
        try:
            code = _wait(process, limits.seconds)
        finally:
            _end(process)
        return code, _report(result, token)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for the end; return the exit code, None where time ran out.

    A program that computes on a busy machine is given more than its time by the clock: the kernel counts what it uses.
    """
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    deadline, asleep = time.monotonic() + _BUSY, 0
    while asleep < _ASLEEP and time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            asleep = 0 if psutil.Process(process.pid).status() == psutil.STATUS_RUNNING else asleep + 1
        with suppress(subprocess.TimeoutExpired):
            return process.wait(0.1)
    return None


def _report(result: IO[bytes], token: str) -> dict[str, Any]:
    """Return what the child wrote last under the token."""
    result.seek(0, os.SEEK_END)
    result.seek(max(0, result.tell() - _READ))
    lines = [line for line in result.read().decode(errors="replace").splitlines() if line.startswith(token)]
    found: dict[str, Any] = {}
    for line in lines:
        with suppress(json.JSONDecodeError):
            found |= json.loads(line.removeprefix(token))
    return found


def _environment(folder: str) -> dict[str, str]:
    """Return nothing of the user's environment but what starting Python needs."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return {**kept, **threads, "HOME": folder, "TMPDIR": folder, "TEMP": folder, "PYTHONHASHSEED": "0"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group, also where it has ended itself."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError):
        process.kill()
    process.wait()
