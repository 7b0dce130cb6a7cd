"""The child process of the engine llama_cpp: llama.cpp's HTTP server on a loopback port, until the parent closes.

The server is the one inside the package xllamacpp, or a llama-server program that the person has.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from smidgen.inference.child import Parent, run

_ERRORS_AND_WARNINGS = 2


def serve_inside(request: dict[str, Any]) -> tuple[Any, str]:
    """Start the server of xllamacpp in this process; returns it and its address."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = request["path"]
    parameters.n_ctx = request["context"]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = request["threads"]
    parameters.port = 0
    parameters.api_keys = [request["key"]]
    parameters.verbosity = _ERRORS_AND_WARNINGS
    parameters.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    parameters.fit_params = False
    parameters.ui = False
    parameters.endpoint_slots = False
    server = xllamacpp.Server(parameters)
    return server, server.listening_address


def serve_outside(parent: Parent, request: dict[str, Any]) -> tuple[Any, str]:
    """Start a llama-server program; returns its process and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "--model": request["path"],
        "--ctx-size": request["context"],
        "--threads": request["threads"],
        "--host": "127.0.0.1",
        "--port": port,
        "--parallel": 1,
        "--reasoning-format": "none",
    }
    arguments = [str(part) for pair in settings.items() for part in pair]
    process = subprocess.Popen(
        [request["executable"], *arguments],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        env={**os.environ, "LLAMA_API_KEY": request["key"]},
    )
    parent.before_end = process.kill
    threading.Thread(target=_end_with, args=(process,), daemon=True).start()
    return process, f"http://127.0.0.1:{port}"


def _end_with(process: subprocess.Popen[bytes]) -> None:
    code = process.wait()
    os._exit(code if 0 < code < 256 else 1)


def main(parent: Parent) -> None:
    """Start the server that the first request describes, and keep it until the parent is gone."""
    request = parent.next_request()
    started = time.perf_counter()
    try:
        server, address = serve_outside(parent, request) if request["executable"] else serve_inside(request)
    except (RuntimeError, OSError) as error:
        parent.answer(error=str(error))
        return
    parent.answer(address=address, load_seconds=time.perf_counter() - started)
    parent.next_request()  # none comes: the process ends when the parent closes its side
    del server


if __name__ == "__main__":
    run(main)
