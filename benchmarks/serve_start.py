"""Claim: ``smidgen serve`` answers within five seconds of its start, as programs that start it and sleep count on.

    python benchmarks/serve_start.py [--runs 7] [--json]

Each run starts the server as a process of its own on a free port and asks for ``/`` until it answers; an empty HTTP
server of Python's standard library stands beside it, in turn, as the least that a server in Python takes. Printed are
median and most seconds, and the processor's. Exit code 1 where the slowest start takes longer than the claim.
"""

import argparse
import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import psutil

CLAIM = 5.0
PATIENCE = 60.0
COMMANDS = {
    "smidgen serve": ["-m", "smidgen", "serve", "--port", "{port}"],
    "python -m http.server": ["-m", "http.server", "--bind", "127.0.0.1", "{port}"],
}


def started(words: list[str], folder: str) -> tuple[float, float]:
    """Start a server, wait for its first answer, stop it; return the seconds passed and those of the processor."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, *(word.format(port=port) for word in words)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        while not answers(port):
            if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                sys.exit(f"{' '.join(command)} did not answer.")
            time.sleep(0.01)
        passed = time.perf_counter() - began
        used = psutil.Process(process.pid).cpu_times()
        return passed, used.user + used.system
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    """Say whether a server answers at a port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("HEAD", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def measured(runs: int) -> list[dict[str, Any]]:
    """Start every server ``runs`` times, in turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for name, words in COMMANDS.items():
                times[name].append(started(words, folder))
    return [
        {
            "command": name,
            "runs": runs,
            "median": statistics.median(passed for passed, _ in taken),
            "most": max(passed for passed, _ in taken),
            "processor": statistics.median(used for _, used in taken),
        }
        for name, taken in times.items()
    ]


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(given)
    if asked.runs < 1:
        parser.error("--runs must be at least 1")
    rows = measured(asked.runs)
    holds = rows[0]["most"] <= CLAIM
    if asked.json:
        print(json.dumps({"holds": holds, "results": rows}, indent=1))
    else:
        for row in rows:
            figures = f"median {row['median']:.2f} s  most {row['most']:.2f} s  processor {row['processor']:.2f} s"
            print(f"{row['command']:24} {figures}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
