"""The child process of the engine vllm: vLLM's HTTP server on a loopback port, until the parent closes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress

from smidgen.inference.child import Parent, run

_GRACE = 10.0
"""Seconds that the server gets to end the processes that hold its model."""


def main(parent: Parent) -> None:
    """Start the server that the first request describes, and keep it until the parent is gone."""
    request = parent.next_request()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "VLLM_API_KEY": request["key"], "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    try:
        process = subprocess.Popen(
            [*request["command"], "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env=environment,
        )
    except OSError as error:
        parent.answer(error=str(error))
        return
    parent.before_end = lambda: _end(process)
    threading.Thread(target=_end_with, args=(process,), daemon=True).start()
    parent.answer(address=f"http://127.0.0.1:{port}")
    parent.next_request()  # none comes: the process ends when the parent closes its side


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
        return
    process.kill()


def _end_with(process: subprocess.Popen[bytes]) -> None:
    code = process.wait()
    os._exit(code if 0 < code < 256 else 1)


if __name__ == "__main__":
    run(main)
