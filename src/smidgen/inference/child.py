"""Child processes that hold a model, so that a crash of the engine's library takes nothing else with it.

The two sides speak over the child's standard input and output: one JSON object per line, and after some answers'
lines the raw bytes of arrays whose sizes both sides know. What the library prints goes to the standard error
stream, of which the parent keeps the last lines for its messages.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NoReturn

import psutil

from smidgen.errors import EngineFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT_LINES = 40
_PATIENCE = 5.0
_LOG_PREFIX = re.compile(r"^[\d.]+ [A-Z] ")
_ERROR_LINE = re.compile(r"^[\d.]+ E |^error|error:|GGML_ASSERT|GGML_ABORT", re.IGNORECASE)


class Child:
    """The parent's side of a child process.

    Args:
        module: Dotted name of the module to run.
        purpose: What the child does, in words for messages ("scoring model.gguf").
    """

    def __init__(self, module: str, purpose: str) -> None:
        self.purpose = purpose
        environment = dict(os.environ, GGML_NO_BACKTRACE="1", PYTHONIOENCODING="utf-8", PYTHONUNBUFFERED="1")
        if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(environment):
            # A thread that waits for one the system has put aside must not spin for long: with another program
            # on the cores, 2 threads decode tens of times slower under the OpenMP library's own default.
            environment["GOMP_SPINCOUNT"] = "2000"
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        # A session of its own: Ctrl-C at the terminal reaches the parent only, which then closes the child.
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            **apart,
        )
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reader = threading.Thread(target=self._keep_lines, daemon=True)
        self._reader.start()

    def send(self, **request: Any) -> None:
        """Send one request.

        Raises:
            EngineFailed: The child is gone.
        """
        try:
            self._stream(self.process.stdin).write(json.dumps(request).encode() + b"\n")
            self._stream(self.process.stdin).flush()
        except (OSError, ValueError) as error:
            raise self.failure() from error

    def receive(self) -> dict[str, Any]:
        """Wait for the head of an answer.

        Raises:
            EngineFailed: The child is gone or answered with an error.
        """
        line = self._stream(self.process.stdout).readline()
        if not line.endswith(b"\n"):
            raise self.failure()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailed(f"The engine failed at {self.purpose}: {answer['error']}", remedy=answer.get("remedy"))
        return answer

    def read_into(self, array: NDArray[Any]) -> None:
        """Fill an array with the raw bytes that follow an answer's line.

        Raises:
            EngineFailed: The child is gone before all bytes came.
        """
        stream = self._stream(self.process.stdout)
        target = array.reshape(-1).view("uint8").data
        filled = 0
        while filled < len(target):
            count = stream.readinto(target[filled:])  # type: ignore[attr-defined]
            if not count:
                raise self.failure()
            filled += count

    def failure(self) -> EngineFailed:
        """Build the error for a child that ended, with the last line that it printed."""
        self.kill()
        code = self.process.returncode
        ending = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return EngineFailed(f"The engine's process {ending} at {self.purpose}. {self.last_words()}".strip())

    def cause(self) -> str:
        """Return the first error that the library printed, empty where it printed none.

        The first names the cause; those after it only say what failed in consequence.
        """
        errors = (line for line in self._lines if _ERROR_LINE.search(line))
        return _LOG_PREFIX.sub("", next(errors, ""))

    def last_words(self) -> str:
        """Return the last line that the child printed, empty where it printed none."""
        return next((line for line in reversed(self._lines) if line), "")

    def tail(self, lines: int = 5) -> str:
        """Return the last lines that the child printed."""
        return "\n".join([line for line in self._lines if line][-lines:])

    def resident_bytes(self) -> int:
        """Return the memory that the child and its own children hold now, 0 once it has ended."""
        try:
            process = psutil.Process(self.process.pid)
            return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])
        except psutil.Error:
            return 0

    def close(self) -> None:
        """End the child; it ends by itself when its standard input closes. May be called again."""
        self._close(self.process.stdin)
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill_all()
        self._reap()

    def kill(self) -> None:
        """End the child at once. May be called again."""
        self._kill_all()
        self._close(self.process.stdin)
        self._reap()

    def _kill_all(self) -> None:
        if self.process.poll() is not None:
            return
        try:
            processes = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            processes = []
        self.process.kill()
        for each in processes:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def _reap(self) -> None:
        self.process.wait()
        self._reader.join(_PATIENCE)
        self._close(self.process.stdout)

    def _keep_lines(self) -> None:
        stream = self._stream(self.process.stderr)
        with stream:
            for line in stream:
                self._lines.append(line.decode(errors="replace").strip())

    @staticmethod
    def _close(stream: IO[bytes] | None) -> None:
        if stream is not None:
            with suppress(OSError):  # what was still to be sent has no reader any more
                stream.close()

    @staticmethod
    def _stream(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream


class Parent:
    """The child's side: requests of the parent and answers to it.

    The process ends at once, whatever it is doing, when the parent is gone: its end of the pipe closes, or,
    where another process still holds that end, the process gets another parent. (The kernel's own signal for a
    parent's death is not used: it comes when the *thread* that started the child ends.)
    """

    before_end: Callable[[], None]
    """Called when the parent is gone, before the process ends."""

    def __init__(self) -> None:
        self.before_end = lambda: None
        self._requests: queue.Queue[dict[str, Any]] = queue.Queue()
        # The library prints to descriptor 1; only answers may go to the parent.
        self._answers = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        threading.Thread(target=self._listen, daemon=True).start()
        if hasattr(os, "getppid"):
            threading.Thread(target=self._watch, args=(os.getppid(),), daemon=True).start()

    def next_request(self) -> dict[str, Any]:
        """Wait for the parent's next request."""
        return self._requests.get()

    def answer(self, payload: Iterable[NDArray[Any]] = (), **answer: Any) -> None:
        """Send an answer's line and the raw bytes of the arrays that follow it."""
        self._write(memoryview(json.dumps(answer).encode() + b"\n"))
        for part in payload:
            self._write(part.reshape(-1).view("uint8").data)

    def _write(self, part: memoryview) -> None:
        while len(part):
            part = part[self._answers.write(part) :]

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            self._requests.put(json.loads(line))
        self._end()

    def _watch(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        self._end()

    def _end(self) -> None:
        try:
            self.before_end()
        finally:
            os._exit(0)


def run(main: Callable[[Parent], None]) -> NoReturn:
    """Run a child's main function, then end the process without waiting for the library's threads."""
    code = 0
    try:
        main(Parent())
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def peak_resident_bytes() -> int:
    """Return the largest memory that this process ever held, in bytes.

    On Linux it is read from the process's own page table: the usual ``ru_maxrss`` begins with the size of the
    process that started this one.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    information = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(information.peak_wset)
    import resource

    return max(int(information.rss), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
