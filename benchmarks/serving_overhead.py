"""Claim: ``smidgen serve`` costs at most 5 ms to the first token and at most 2 % of the rate of the bare engine.

    python benchmarks/serving_overhead.py [--model smollm2:135m] [--pairs 7] [--tokens 64] [--streams 8] [--json]

The bare engine is the HTTP server of llama.cpp that the package xllamacpp brings, with the same file, threads, context
and slots. A second one of it beside the first says how much the engine differs from itself. The three are asked in
turns: one stream at a time for the time to the first token and the rate behind it, then several at once for the rate
of all together. Printed are medians, the ratio or difference to the bare engine with its range over the pairs, and the
processor time of smidgen's own process for each token. Exit code 1 where a median misses the claim and lies outside
what the engine differs from itself.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import httpx
import psutil

from smidgen.export import runnable
from smidgen.inference.llama_server import LlamaServer, ServerSettings
from smidgen.machine import cores

FIRST_TOKEN_MS, RATE = 5.0, 0.98
PROMPT = "Once upon a time there was a miller who had three sons and a mill by the river"
CONTEXT = 512


class Place:
    """Where answers come from: an address, a route, and what is sent there."""

    def __init__(self, url: str, headers: dict[str, str], body: Callable[[str, int], dict[str, Any]]) -> None:
        self.url, self.headers, self.body = url, headers, body

    def answer(self, prompt: str, tokens: int) -> list[float]:
        """Stream an answer; returns the seconds from the request to each piece of it."""
        began, stamps = time.perf_counter(), []
        with (
            httpx.Client(headers=self.headers, timeout=600, trust_env=False) as client,
            client.stream("POST", self.url, json=self.body(prompt, tokens)) as response,
        ):
            response.raise_for_status()
            for line in response.iter_lines():
                if line:
                    stamps.append(time.perf_counter() - began)
        return stamps


def bare(server: LlamaServer) -> Place:
    def body(prompt: str, tokens: int) -> dict[str, Any]:
        return {"prompt": prompt, "n_predict": tokens, "temperature": 0, "stream": True, "ignore_eos": False}

    return Place(f"{server.address}/completion", server.headers, body)


def served(address: str, model: str) -> Place:
    def body(prompt: str, tokens: int) -> dict[str, Any]:
        return {"model": model, "prompt": prompt, "raw": True, "options": {"temperature": 0, "num_predict": tokens}}

    return Place(f"{address}/api/generate", {}, body)


def one(place: Place, number: int, tokens: int) -> dict[str, float]:
    """Measure one stream: milliseconds to its first piece, and pieces per second behind it."""
    stamps = place.answer(f"{number}. {PROMPT}", tokens)
    return {"first_ms": stamps[0] * 1000, "rate": (len(stamps) - 2) / (stamps[-2] - stamps[0])}


def many(place: Place, number: int, tokens: int, streams: int) -> float:
    """Measure several streams at once: pieces per second of all together."""
    began = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        prompts = [f"{number}.{stream}. {PROMPT}" for stream in range(streams)]
        answers = list(pool.map(lambda prompt: place.answer(prompt, tokens), prompts))
    return sum(len(stamps) - 1 for stamps in answers) / (time.perf_counter() - began)


def start(asked: argparse.Namespace, threads: int, stack: ExitStack) -> tuple[str, psutil.Process]:
    """Start ``smidgen serve``; returns its address and its process."""
    words = ["serve", "--port", "0", "--json", "--threads", str(threads), "--parallel", str(asked.streams)]
    environment = {**os.environ, "OLLAMA_CONTEXT_LENGTH": str(CONTEXT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "smidgen", *words, "--speculate", "off"], stdout=subprocess.PIPE, env=environment
    )
    stack.callback(process.wait)
    stack.callback(process.send_signal, signal.SIGTERM)
    said = b""
    assert process.stdout is not None
    while not said.rstrip().endswith(b"}"):
        line = process.stdout.readline()
        if not line:
            raise SystemExit("smidgen serve did not start")
        said += line
    return str(json.loads(said)["address"]), psutil.Process(process.pid)


def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Ask all three in turns."""
    path, threads = runnable.gguf_of(runnable.find(asked.model)), asked.threads or cores()[0]
    figures: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        settings = ServerSettings(context=CONTEXT, slots=asked.streams, threads=threads, shift=True)
        engines = [stack.enter_context(closing(LlamaServer(path, settings))) for _ in range(2)]
        address, process = start(asked, threads, stack)
        places = {"bare": bare(engines[0]), "bare again": bare(engines[1]), "smidgen": served(address, asked.model)}
        for place in places.values():
            one(place, 0, 4)
        used, tokens = 0.0, 0
        for number in range(1, asked.pairs + 1):
            for name, place in places.items():
                before = sum(process.cpu_times()[:2])
                found = one(place, number, asked.tokens)
                found["together"] = many(place, number, asked.tokens, asked.streams)
                if name == "smidgen":
                    used += sum(process.cpu_times()[:2]) - before
                    tokens += asked.tokens * (asked.streams + 1)
                for figure, value in found.items():
                    figures.setdefault(figure, {}).setdefault(name, []).append(value)
    return {"figures": figures, "processor_ms_per_token": used / tokens * 1000, "threads": threads}


def compare(figures: dict[str, list[float]], name: str, figure: str) -> tuple[float, float, float]:
    """Return the median, least and most of a place's difference or ratio to the bare engine, pair by pair."""
    pairs = list(zip(figures[name], figures["bare"], strict=True))
    found = sorted(a - b if figure == "first_ms" else a / b for a, b in pairs)
    return statistics.median(found), found[0], found[-1]


def holds(figures: dict[str, list[float]], figure: str) -> bool:
    """Say whether the claim holds, or the miss lies within what the engine differs from itself."""
    middle, _, _ = compare(figures, "smidgen", figure)
    _, low, high = compare(figures, "bare again", figure)
    return middle <= max(FIRST_TOKEN_MS, high) if figure == "first_ms" else middle >= min(RATE, low)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measured(asked)
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        print("| figure | from | median | against the bare engine: median (least to most) |\n|---|---|---|---|")
        for figure, rows in found["figures"].items():
            for name, values in rows.items():
                middle, low, high = compare(rows, name, figure)
                print(
                    f"| {figure} | {name} | {statistics.median(values):.2f} | {middle:.3f} ({low:.3f} to {high:.3f}) |"
                )
        print(f"Processor time of smidgen's process: {found['processor_ms_per_token']:.3f} ms per token.")
    return int(not all(holds(rows, figure) for figure, rows in found["figures"].items()))


if __name__ == "__main__":
    sys.exit(main())
