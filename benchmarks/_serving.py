"""A server in a process of its own, to be put under load: started, asked, watched and stopped."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.request import urlopen

import psutil

from smidgen.serving.loopback import Loopback

PATIENCE = 120.0


class Server:
    """A running ``smidgen serve``.

    Attributes:
        address: Where it listens.
        process: Its process.
    """

    def __init__(self, home: Path, arguments: list[str], environment: dict[str, str]) -> None:
        # A file, not a pipe: a server that says much would wait for somebody to read it.
        self._errors = TemporaryFile()  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smidgen", "serve", "--port", "0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "SMIDGEN_HOME": str(home), **environment},
        )
        said = b""
        while not said.rstrip().endswith(b"}"):
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(self.said())
            said += line
        self.address = str(json.loads(said)["address"])

    async def post(self, route: str, fields: dict[str, Any]) -> tuple[int, bytes]:
        """Ask it, and read the whole answer."""
        async with Loopback(self.address, {}).post(route, fields) as reply:
            return reply.status, await reply.body()

    def figure(self, name: str) -> float:
        """Return one of the figures that it tells Prometheus."""
        with urlopen(f"{self.address}/metrics", timeout=PATIENCE) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        if found is None:
            raise RuntimeError(f"there is no figure {name}")
        return float(found[1])

    async def seconds_until(self, name: str, wanted: float) -> float:
        """Wait until a figure has a value; returns how long that took."""
        began = time.perf_counter()
        while await asyncio.to_thread(self.figure, name) != wanted:
            if time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"{name} never became {wanted}")
            await asyncio.sleep(0.005)
        return time.perf_counter() - began

    def resident(self) -> int:
        """Return the bytes of memory that its own process holds."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def engines(self) -> list[psutil.Process]:
        """Return the processes that hold its models."""
        children = psutil.Process(self.process.pid).children()
        return [each for each in children if "_llama_cpp_child" in " ".join(each.cmdline())]

    def said(self) -> str:
        """Return what it said on stderr."""
        if not self._errors.closed:
            self._errors.seek(0)
            self._last = self._errors.read().decode(errors="replace")
        return self._last

    def close(self) -> None:
        """Let go of what it says; the last is kept."""
        self.said()
        self._errors.close()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> tuple[int, str]:
        """Stop it; returns its exit code and what it said on stderr."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE)
        return self.process.returncode, self.said()


@contextmanager
def running(home: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Run a server until the block ends, whatever happens in it."""
    server = Server(home, list(arguments), environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.close()


@contextmanager
def addressed(words: list[str], **environment: str) -> Iterator[str]:
    """Run Python with these words, a server that says its address in JSON, and give that until the block ends."""
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, text=True, env=os.environ | environment
    )
    assert process.stdout is not None
    try:
        said = ""
        while not said.rstrip().endswith("}"):
            line = process.stdout.readline()
            if not line:
                sys.exit("The server ended before it was ready.")
            said += line
        yield str(json.loads(said)["address"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
