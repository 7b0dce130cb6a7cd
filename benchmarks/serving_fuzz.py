"""Claim: whatever is sent to the server, it answers or refuses in words, writes only into its store, and goes on.

    python benchmarks/serving_fuzz.py [--requests 10000] [--seed 0] [--model NAME --home FOLDER]
        [--schemathesis PROGRAM --examples 100] [--json]

Hand-made requests (_malformed.py) go over the wire as bytes; those of schemathesis, where its program is given
(``pip install schemathesis`` in an environment of its own), follow the OpenAPI schema. The server runs in a folder of
its own, with its home, its temporary files and its working folder inside, and without a way to the network.

Printed are the answers by status, the kinds of requests, the memory before and after, and everything that is wrong:
an internal fault, a traceback, no answer where one is due, a file outside the store, a server that has died or has
grown beyond the bound. Exit code 1 where anything is.
"""

import argparse
import asyncio
import json
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from _malformed import CUT_SHORT, HOST, Malformed, routes_of
from _serving import PATIENCE, Server, running

MOST_GROWTH = 200 << 20
"""Bytes by which the server may grow over all requests: a few bodies of the largest size at once."""

AT_ONCE = 4
FAULTS = (b"Traceback", b"internal fault", b"\r\n\r\nInternal Server Error")
MOMENT = 0.3
"""Seconds after which a client that sent half a request hangs up."""
NO_NETWORK = {
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "SMIDGEN_OLLAMA_REGISTRY": "http://127.0.0.1:9",
    "PIP_INDEX_URL": "http://127.0.0.1:9",
    "PIP_NO_INDEX": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}
HOW = (
    *("--mode", "all", "--phases", "examples,coverage,fuzzing", "--checks", "not_a_server_error"),
    *("--continue-on-failure", "--no-color", "--seed", "1", "--request-timeout", "60"),
)
BOUNDS = {"SMIDGEN_MAX_BODY": str(1 << 20), "OLLAMA_CONTEXT_LENGTH": "256", "SMIDGEN_MAX_CONTEXT": "4096"}


@dataclass
class Tally:
    """What the requests met.

    Attributes:
        statuses: Answers by status; 0 for a connection that was closed without one.
        kinds: Requests by kind.
        said: Answers of status 500 and above, to be judged by a reader.
        faults: What must not happen and did.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, request: bytes, answer: bytes) -> None:
        """Judge one answer."""
        head = answer.split(b" ", 2)
        status = int(head[1]) if answer.startswith(b"HTTP/") and len(head) > 2 and head[1].isdigit() else 0
        self.statuses[status] += 1
        self.kinds[kind] += 1
        if status >= 500:
            self.said[answer.partition(b"\r\n\r\n")[2].decode(errors="replace")[:160]] += 1
        if any(fault in answer for fault in FAULTS):
            shown = request if len(request) < 1500 else request[:1000] + b" ... " + request[-400:]
            self.faults.append(f"{kind}: {shown!r} -> {answer[-300:]!r}")


async def send(server: Server, request: bytes, patience: float = PATIENCE) -> bytes:
    """Send bytes, and read what comes back until the server ends the connection.

    Raises:
        TimeoutError: Nothing comes back, and the connection stays open.
    """
    try:
        reader, writer = await asyncio.open_connection(HOST, int(server.address.rpartition(":")[2]))
    except ConnectionError:  # told apart by whoever looks whether the server still runs
        return b""
    answer = b""
    try:
        writer.write(request)
        async with asyncio.timeout(patience):
            await writer.drain()
            while part := await reader.read(1 << 16):
                answer += part
    except ConnectionError:
        pass  # it hung up while it was sent something: what it said before counts
    except TimeoutError:
        if not answer:
            raise
    finally:
        writer.transport.abort()
    return answer


async def fuzz(server: Server, source: Malformed, count: int) -> Tally:
    """Send so many requests, a few at a time."""
    tally = Tally()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            kind, request = source.make(number)
            try:
                tally.add(kind, request, await send(server, request, MOMENT if kind in CUT_SHORT else PATIENCE))
            except TimeoutError:
                tally.add(kind, request, b"")
                if kind not in CUT_SHORT:
                    tally.faults.append(f"{kind}: no answer to {request[:300]!r}")
            if server.process.poll() is not None:
                tally.faults.append(f"{kind}: the server died of {request[:300]!r}")
                return

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return tally


def read_schema(server: Server) -> dict[str, Any]:
    with urlopen(f"{server.address}/openapi.json", timeout=PATIENCE) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def by_schema(server: Server, program: str, examples: int, tally: Tally) -> None:
    """Let schemathesis ask; what it asked is counted by the server."""
    before = _asked(server)
    done = subprocess.run(
        [program, "run", f"{server.address}/openapi.json", "--max-examples", str(examples), *HOW],
        capture_output=True,
        text=True,
        check=False,
    )
    tally.kinds["schemathesis"] += int(_asked(server) - before)
    if done.returncode:
        tally.faults.append(f"schemathesis: {done.stdout[-6000:]}{done.stderr[-1000:]}")


def _asked(server: Server) -> float:
    with urlopen(f"{server.address}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("smidgen_http_requests_total"))


def files_in(folder: Path, but: Path) -> set[str]:
    """Return every file of a folder but those of one inside it."""
    return {str(path) for path in folder.rglob("*") if path != but and but not in path.parents}


def attack(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run a server in a folder, attack it, and tell what happened."""
    home = asked.home or folder / "home" / "store"
    for name in ("home", "temporary", "work"):
        (folder / name).mkdir()
    inside = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary")}
    models = ("echo", *([asked.model] if asked.model else []))
    before = files_in(folder, home)
    canary = Path("/tmp/outside")
    with running(home, "--threads", "1", "--parallel", "2", **NO_NETWORK, **BOUNDS, **inside) as server:
        source = Malformed(routes_of(read_schema(server)), models, asked.seed)
        held, held_after = server.resident(), 0
        tally = asyncio.run(fuzz(server, source, asked.requests))
        if asked.schemathesis and server.process.poll() is None:
            by_schema(server, asked.schemathesis, asked.examples, tally)
        if server.process.poll() is None:
            held_after = server.resident()
            status, _ = asyncio.run(server.post("/api/generate", {"model": "echo", "prompt": "still there?"}))
            if status != 200:
                tally.faults.append(f"the server answers {status} in the end")
            if held_after - held > MOST_GROWTH:
                tally.faults.append(f"the server grew by {(held_after - held) >> 20} MiB")
            server.stop()
        code, errors = server.process.returncode, server.said()
        if code or "Traceback" in errors:
            tally.faults.append(f"the server ended with {code} and said: {errors[-3000:]}")
    # What the engine's libraries keep for themselves is no model of ours.
    strays = {path for path in files_in(folder, home) - before if not path.startswith(str(folder / "home" / ".cache"))}
    tally.faults += [f"a file outside the store: {path}" for path in sorted(strays)]
    if canary.exists():
        tally.faults.append(f"a file outside the store: {canary}")
    return {
        "requests": sum(tally.kinds.values()),
        "statuses": dict(sorted(tally.statuses.items())),
        "kinds": dict(tally.kinds),
        "said_500": dict(tally.said.most_common()),
        "memory_mib": [held >> 20, held_after >> 20],
        "faults": tally.faults,
    }


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Send the server what no client sends on purpose.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a stored model to attack beside the echo engine")
    parser.add_argument("--home", type=Path, help="the store with the model; an empty one where not given")
    parser.add_argument("--schemathesis", metavar="PROGRAM", help="the program schemathesis, to ask by the schema too")
    parser.add_argument("--examples", type=int, default=100, help="of schemathesis for each route")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        found = attack(asked, Path(folder))
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        print(*(f"{name}: {value}" for name, value in found.items() if name != "faults"), sep="\n")
        print("\n".join(found["faults"]) or "Nothing was wrong.")
    return 1 if found["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
