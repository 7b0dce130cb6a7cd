"""Claim: under more clients than it can serve, the server mixes no answers, turns away the rest, and stays small.

    python benchmarks/serving_load.py [--clients 200] [--seconds 120] [--slots 2] [--queue 64]
        [--model smollm2:135m --model-seconds 30] [--json]

Every client asks, waits for the answer and asks again, each time with words of its own; the engine "echo" must give
them back to the letter. Then, with a real model: each prompt repeats a number of its own, which the answer must go on
with and never with another client's, while the engine's process is killed with -9 in the middle and other clients go
on with "echo"; and clients that leave in the middle of an answer, after which their slot must be free.

Printed are the answers by kind, the time from asking to the answer's end, the memory of the server's process and its
slope over the second half. Exit code 1 where an answer was wrong or mixed, an error was not clear, the memory grew by
more than the bound, a slot was not free after a second, or the engine did not come back.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _serving import Server, running

MOST_GROWTH = 16 << 20
"""Bytes by which the server's memory may grow in the second half: the noise of an allocator, not a leak."""

FREE_WITHIN = 1.0
BUSY = "maximum pending requests exceeded"
BROKEN = re.compile(r"ended by signal 9|broke off an answer")


@dataclass
class Tally:
    """What many clients met.

    Attributes:
        kinds: Answers by kind: "right", "wrong", "mixed", "busy", "engine lost", or an error that is none of these.
        seconds: Time of each right answer.
        memory: Pairs of seconds since the begin and resident bytes.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return the figures to show."""
        found: dict[str, Any] = {"answers": dict(self.kinds)}
        if len(self.seconds) > 1:
            cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
            found |= {f"p{each}_seconds": round(cuts[each - 1], 4) for each in (50, 90, 95, 99)}
        late = self.memory[len(self.memory) // 2 :]
        if len(late) > 2:
            slope, _ = statistics.linear_regression([at for at, _ in late], [held for _, held in late])
            found |= {
                "memory_mib": round(late[-1][1] / 2**20, 1),
                "slope_mib_per_minute": round(slope * 60 / 2**20, 2),
                "grown_mib": round((late[-1][1] - late[0][1]) / 2**20, 2),
            }
        return found

    @property
    def faults(self) -> list[str]:
        """What must not happen and did."""
        bad = [f"{count} answers: {kind}" for kind, count in self.kinds.items() if kind not in _FINE]
        if not self.kinds["right"] + self.kinds["unsure"]:
            bad.append("no answer was right")
        late = self.memory[len(self.memory) // 2 :]
        if late and late[-1][1] - late[0][1] > MOST_GROWTH:
            bad.append(f"memory grew by {(late[-1][1] - late[0][1]) / 2**20:.1f} MiB")
        return bad


_FINE = ("right", "busy", "unsure")

Ask = Callable[[Server, str, bool], Awaitable[str]]
"""Asks once, with words of its own, as a stream or not; returns the kind of answer."""


async def ask_echo(server: Server, nonce: str, stream: bool) -> str:
    """Ask the echo engine for a client's own words, over one of the dialects."""
    turns = [{"role": "user", "content": nonce}]
    if hash(nonce) % 3:
        status, body = await server.post("/api/chat", {"model": "echo", "messages": turns, "stream": stream})
        said = [json.loads(line) for line in body.splitlines()]
        text = "".join(each.get("message", {}).get("content", "") for each in said)
    else:
        status, body = await server.post("/v1/chat/completions", {"model": "echo", "messages": turns})
        said = [json.loads(body)]
        text = "".join(each["message"]["content"] for each in said[0].get("choices", ()))
    if status != 200:
        return kind_of_error(status, body.decode())
    return "right" if text == nonce else "wrong"


def asking(model: str) -> Ask:
    """Return what asks a real model to go on repeating a number."""

    async def ask(server: Server, nonce: str, stream: bool) -> str:
        number = nonce.split()[0]
        prompt = " ".join(["The number is", *[f"{number}, the number is"] * 5])
        options = {"temperature": 0, "num_predict": 8, "stop": [","]}
        fields = {"model": model, "prompt": prompt, "raw": True, "stream": stream, "options": options}
        status, body = await server.post("/api/generate", fields)
        said = [json.loads(line) for line in body.splitlines()]
        errors = [each["error"] for each in said if "error" in each]
        if errors:
            return kind_of_error(status, errors[0])
        text = "".join(each["response"] for each in said).strip()
        if text == number:
            return "right"
        return "mixed" if re.fullmatch(r"\d{6}", text) and sum(map(str.__ne__, text, number)) > 3 else "unsure"

    return ask


def kind_of_error(status: int, text: str) -> str:
    """Name an error: what is to be expected under load, or itself."""
    if BUSY in text and status == 503:
        return "busy"
    return "engine lost" if BROKEN.search(text) else f"{status} {text[:120]}"


async def clients(server: Server, ask: Ask, count: int, seconds: float, *, tally: Tally, seed: int = 0) -> None:
    """Let many clients ask over and over for some time."""
    end = time.perf_counter() + seconds

    async def talk(number: int) -> None:
        own = random.Random(f"{seed} {number}")
        while time.perf_counter() < end:
            nonce = f"{own.randrange(100_000, 1_000_000)} " + f"{number:04d} " * own.randrange(1, 60) + "end"
            began = time.perf_counter()
            try:
                kind = await ask(server, nonce, own.random() < 0.5)
            except (OSError, EOFError) as error:
                kind = f"broken connection: {type(error).__name__}"
            tally.kinds[kind] += 1
            if kind == "right":
                tally.seconds.append(time.perf_counter() - began)
            elif kind == "busy":
                await asyncio.sleep(own.uniform(0.05, 0.5))

    await asyncio.gather(*(talk(number) for number in range(count)))


async def watched(server: Server, tally: Tally, work: Awaitable[None]) -> None:
    """Do the work, and look at the server's memory all the while."""
    began = time.perf_counter()

    async def look() -> None:
        while True:
            tally.memory.append((time.perf_counter() - began, server.resident()))
            await asyncio.sleep(0.5)

    looking = asyncio.ensure_future(look())
    try:
        await work
    finally:
        looking.cancel()


async def flood(server: Server, count: int, seconds: float) -> Tally:
    """Put the echo engine under load; the first seconds, in which memory is taken once, are not counted."""
    await clients(server, ask_echo, count, min(5.0, seconds / 4), tally=Tally(), seed=1)
    tally = Tally()
    await watched(server, tally, clients(server, ask_echo, count, seconds, tally=tally))
    return tally


async def killed(server: Server, model: str, count: int, seconds: float) -> tuple[Tally, Tally]:
    """Put a real model under load beside the echo engine, and kill its process in the middle."""
    ask, tally, others = asking(model), Tally(), Tally()
    await server.post("/api/generate", {"model": model})

    async def kill() -> None:
        await asyncio.sleep(seconds / 2)
        for engine in server.engines():
            engine.kill()

    await asyncio.gather(
        watched(server, tally, clients(server, ask, count, seconds, tally=tally)),
        clients(server, ask_echo, 4, seconds, tally=others, seed=2),
        kill(),
    )
    after = await ask(server, "123456 after", False)
    if after not in ("right", "unsure"):
        tally.kinds[f"after the engine's end: {after}"] += 1
    return tally, others


async def leavers(server: Server, model: str, count: int) -> list[float]:
    """Leave in the middle of answers; returns how long each slot stayed taken."""
    from smidgen.serving.loopback import Loopback

    long = {"type": "array", "items": {"type": "integer", "maximum": 999, "minimum": 1}, "minItems": 2000}
    fields = {"model": model, "prompt": "Count: 1, 2, 3,", "raw": True, "format": long, "options": {"seed": 1}}
    waits = []
    for _ in range(count):
        async with Loopback(server.address, {}).post("/api/generate", fields) as reply:
            await anext(reply.parts)
        waits.append(await server.seconds_until("smidgen_active_requests", 0))
    return waits


async def measured(server: Server, asked: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Do everything; returns the figures, and what must not happen and did."""
    echo = await flood(server, asked.clients, asked.seconds)
    figures: dict[str, Any] = {"echo": echo.figures()}
    faults = [f"echo: {fault}" for fault in echo.faults]
    if asked.model:
        real, beside = await killed(server, asked.model, asked.clients, asked.model_seconds)
        waits = await leavers(server, asked.model, asked.leavers)
        figures |= {
            asked.model: real.figures(),
            "echo beside it": beside.figures(),
            "slot_free_seconds": {"median": round(statistics.median(waits), 4), "most": round(max(waits), 4)},
        }
        lost = real.kinds.pop("engine lost", 0)
        faults += [f"{asked.model}: {fault}" for fault in real.faults if "memory" not in fault]
        faults += [f"echo beside it: {fault}" for fault in beside.faults]
        if not lost:
            faults.append("killing the engine failed no request, so that it was not under load")
        if max(waits) > FREE_WITHIN:
            faults.append(f"a slot was free only after {max(waits):.2f} s")
    for name in ("smidgen_active_requests", "smidgen_waiting_requests"):
        if left := server.figure(name):
            faults.append(f"{name} is {left} in the end")
    return figures, faults


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Put a server under load.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--model", help="a stored model, for the parts that need one")
    parser.add_argument("--model-seconds", type=float, default=30.0)
    parser.add_argument("--leavers", type=int, default=10)
    parser.add_argument("--home", type=Path, help="the store with the model; an empty one where not given")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        home = asked.home or Path(folder)
        bounds = {"OLLAMA_MAX_QUEUE": str(asked.queue), "OLLAMA_CONTEXT_LENGTH": "512"}
        with running(home, "--parallel", str(asked.slots), "--threads", "1", **bounds) as server:
            figures, faults = asyncio.run(measured(server, asked))
            code, errors = server.stop()
    if code or errors:
        faults.append(f"the server ended with {code} and said: {errors[-300:]}")
    if asked.json:
        print(json.dumps({"figures": figures, "faults": faults}, indent=2))
    else:
        for name, found in figures.items():
            print(name, *(f"{key}={value}" for key, value in found.items()), sep="\n    ")
        print("\n".join(faults) or "Nothing was wrong.", file=sys.stdout)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
