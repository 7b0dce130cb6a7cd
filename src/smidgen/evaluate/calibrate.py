"""How fast this machine runs language models, measured once on a small real one and kept.

Raw figures, bandwidth and FLOP/s, say what the machine could do; the embedded model says what the engine makes of
it. Both go into one small file, so that the next question is answered at once.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smidgen import machine
from smidgen.errors import SmidgenError
from smidgen.inference.footprint import VOCABULARY_BYTES
from smidgen.inference.scoring import PromptScorer
from smidgen.models import catalog
from smidgen.models.files import atomic_write
from smidgen.progress import Event, Progress, silent

EMBEDDED = "smollm2:135m"
"""The model that the machine is measured with."""

CACHE = "machine.json"
"""File in the store's folder that keeps what was measured."""

UNCALIBRATED_SHARE = 0.4
"""Share of the measured bandwidth that decoding is taken to reach where no model was run: cautious, since engines that
unpack 4-bit weights seldom wait for memory alone."""
UNCALIBRATED_READING = 0.4
UNCALIBRATED_MEMORY = 80_000_000

_CONTEXT = 512
_WRITTEN, _READ, _ROUNDS, _WARM_UP = 16, 64, 3, 2


@dataclass(frozen=True)
class Calibration:
    """What was measured on this machine, or follows from what was said about another one.

    Attributes:
        bandwidth: Bytes per second that memory delivers.
        flops: Float32 operations per second of a plain matrix product.
        threads: Threads computed with.
        token_seconds: Seconds for which the embedded model writes one token; None where it was not run.
        read_seconds: Seconds for which it reads one token of a prompt; None where it was not run.
        memory: Bytes of a process that runs a model, beyond its file, its cache and its vocabulary.
        busy: Whether other programs used the cores meanwhile; the seconds are then those of the processor.
        key: What the figures hold for: processor, threads, engine.
    """

    bandwidth: float
    flops: float
    threads: int
    token_seconds: float | None = None
    read_seconds: float | None = None
    memory: int = UNCALIBRATED_MEMORY
    busy: bool = False
    key: str = ""

    @property
    def delivered(self) -> float:
        """Bytes per second that memory delivers, or that a model was seen to be read at, where that is more."""
        seen = 0.0 if self.token_seconds is None else catalog.find(EMBEDDED).bytes / self.token_seconds
        return max(self.bandwidth, seen)

    @property
    def calibrated(self) -> bool:
        """Whether a model was run, so that estimates rest on more than raw figures."""
        return self.token_seconds is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"calibrated": self.calibrated}

    def on(self, *, bandwidth: float | None = None) -> Calibration:
        """Return what a machine with another bandwidth is expected to do: all its seconds scale alike."""
        if bandwidth is None:
            return self
        ratio = self.bandwidth / bandwidth
        return Calibration(
            bandwidth=bandwidth,
            flops=self.flops / ratio,
            threads=self.threads,
            token_seconds=None if self.token_seconds is None else self.token_seconds * ratio,
            read_seconds=None if self.read_seconds is None else self.read_seconds * ratio,
            memory=self.memory,
        )


def key_of(found: machine.Machine, threads: int) -> str:
    """Return what the figures hold for; anything else in it asks for a new measurement.

    Args:
        found: The machine.
        threads: Threads computed with.
    """
    return f"{found.processor}, {threads} threads, xllamacpp {found.versions.get('xllamacpp')}"


def kept(folder: Path, key: str) -> Calibration | None:
    """Return what was measured before on this machine; None where nothing was, or it cannot be read.

    Args:
        folder: The store's folder.
        key: What it must hold for, of `key_of`.
    """
    try:
        read = json.loads((folder / CACHE).read_text(encoding="utf-8"))
        found = Calibration(**{name: value for name, value in read.items() if name != "calibrated"})
        numbers = (found.bandwidth, found.flops, found.token_seconds or 1.0, found.read_seconds or 1.0)
        return found if found.key == key and all(math.isfinite(each) and each > 0 for each in numbers) else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def keep(folder: Path, found: Calibration) -> None:
    """Keep what was measured for the next time."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / CACHE, json.dumps(found.to_dict(), indent=2) + "\n")


def measure(path: Path | None, *, threads: int, progress: Progress = silent) -> Calibration:
    """Measure this machine: raw figures, and the embedded model where its file is at hand.

    Args:
        path: The embedded model's GGUF file; None to take raw figures only.
        threads: Threads to compute with.
        progress: Receives reports.

    Raises:
        EngineFailed: The engine refuses the file.
    """
    progress(Event("measuring this machine", 0, 2, ""))
    raw = Calibration(machine.bandwidth(), machine.flops(), threads, key=key_of(machine.inspect(), threads))
    progress(Event("measuring this machine", 1, 2, ""))
    found = raw if path is None else _with_model(raw, path)
    progress(Event("measuring this machine", 2, 2, ""))
    return found


def _with_model(raw: Calibration, path: Path) -> Calibration:
    architecture = catalog.find(EMBEDDED).architecture
    assert architecture is not None
    with PromptScorer(path, threads=raw.threads, context=_CONTEXT) as scorer:
        scorer.time_decode(_WARM_UP)
        writing = [undisturbed(lambda: scorer.time_decode(_WRITTEN), raw.threads) for _ in range(_ROUNDS)]
        reading = [undisturbed(lambda: scorer.time_prefill(_READ), raw.threads) for _ in range(_ROUNDS)]
        known = path.stat().st_size + architecture.cache_bytes(_CONTEXT)
        beyond = scorer.peak_rss_bytes() - known - architecture.vocabulary_size * VOCABULARY_BYTES
    return Calibration(
        raw.bandwidth,
        raw.flops,
        raw.threads,
        token_seconds=statistics.median(seconds for seconds, _ in writing) / _WRITTEN,
        read_seconds=statistics.median(seconds for seconds, _ in reading) / _READ,
        memory=max(0, beyond),
        busy=any(busy for _, busy in writing),
        key=raw.key,
    )


def undisturbed(timed: Callable[[], float], threads: int) -> tuple[float, bool]:
    """Return how long some work takes on an otherwise idle machine, and whether it is not idle now.

    The seconds of the clock count, or those that the processor spent on it where other programs held it up.
    """
    before = _processor_seconds()
    clock = timed()
    spent = (_processor_seconds() - before) / threads
    held_up = spent > 0 and clock > machine.HELD_UP * spent
    return (spent if held_up else clock), held_up


def _processor_seconds() -> float:
    """Return the seconds that the processor spent on this process's children, which hold the models."""
    import psutil

    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def calibration(
    folder: Path, *, threads: int, offline: bool = False, again: bool = False, progress: Progress = silent
) -> Calibration:
    """Return how fast this machine is: what was kept, else measured now and kept.

    The embedded model is fetched where it is not at hand; where it cannot be had, raw figures are returned, and not
    kept.

    Args:
        folder: The store's folder.
        threads: Threads to compute with.
        offline: Fetch nothing.
        again: Measure even though figures are kept.
        progress: Receives reports.
    """
    before = None if again else kept(folder, key_of(machine.inspect(), threads))
    if before is not None:
        return before
    path = embedded_file(folder, offline=offline, progress=progress)
    try:
        found = measure(path, threads=threads, progress=progress)
    except SmidgenError:
        found = measure(None, threads=threads, progress=progress)
    if found.calibrated:
        keep(folder, found)
    return found


def embedded_file(folder: Path, *, offline: bool = True, progress: Progress = silent) -> Path | None:
    """Return the embedded model's file, fetched unless offline; None where it cannot be had.

    Args:
        folder: The store's folder.
        offline: Fetch nothing.
        progress: Receives reports.
    """
    from smidgen.models.reference import Reference
    from smidgen.models.sources import fetch
    from smidgen.models.store import Store

    try:
        return fetch(Reference("catalog", EMBEDDED), Store(folder), offline=offline, progress=progress).path
    except SmidgenError:
        return None
