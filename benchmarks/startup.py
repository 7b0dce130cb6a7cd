"""Claim: ``import smidgen`` and ``smidgen --help``, of everything or of one command, take at most 0.5 s.

    python benchmarks/startup.py [--runs 15] [--json]

Every command runs in a fresh process, the commands in turn, so that a busy moment falls on all of them; an empty
Python program stands beside them as what no Python program can undercut. Printed are median, least and most seconds
after one warm-up that leaves the compiled modules in a folder for this run, the processor's seconds (far below the
others where the machine is busy), and the ratio to the empty program. Exit code 1 where a median exceeds the promise.
What was measured with it is recorded in EXPERIMENTS.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

PROMISE = 0.5
EMPTY = "python -c pass"
COMMANDS = {
    EMPTY: ["-c", "pass"],
    "import smidgen": ["-c", "import smidgen"],
    "smidgen --help": ["-m", "smidgen", "--help"],
    "smidgen --version": ["-m", "smidgen", "--version"],
    "smidgen make --help": ["-m", "smidgen", "make", "--help"],
}


def seconds(words: list[str], compiled: str) -> tuple[float, float]:
    """Time one run in a process of its own: seconds passed, and seconds of the processor."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, env=environment)
    passed, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return passed, used


def measured(runs: int) -> list[dict[str, Any]]:
    """Time every command ``runs`` times, in turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as compiled:
        for words in COMMANDS.values():
            seconds(words, compiled)
        for _ in range(runs):
            for name, words in COMMANDS.items():
                times[name].append(seconds(words, compiled))
    medians = {name: statistics.median(passed for passed, _ in taken) for name, taken in times.items()}
    return [
        {
            "command": name,
            "runs": runs,
            "median": medians[name],
            "least": min(passed for passed, _ in taken),
            "most": max(passed for passed, _ in taken),
            "processor": statistics.median(used for _, used in taken),
            "ratio": medians[name] / medians[EMPTY],
        }
        for name, taken in times.items()
    ]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time smidgen's start against its promise.")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args(words)
    if asked.runs < 1:
        parser.error("--runs must be at least 1")
    found = measured(asked.runs)
    holds = all(entry["median"] <= PROMISE for entry in found)
    if asked.json:
        print(json.dumps({"promise": PROMISE, "results": found, "holds": holds}, indent=2))
    else:
        print(f"{'command':<22}{'median s':>10}{'least':>9}{'most':>9}{'processor':>11}{'ratio':>8}")
        for entry in found:
            passed = f"{entry['median']:>10.3f}{entry['least']:>9.3f}{entry['most']:>9.3f}"
            print(f"{entry['command']:<22}{passed}{entry['processor']:>11.3f}{entry['ratio']:>8.1f}")
        print(f"The promise is {PROMISE} s: {'kept' if holds else 'missed'}.")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
