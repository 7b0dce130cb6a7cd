"""How fast a GGUF runs in the engine that users get: llama-bench's two tests, first token, load and memory.

One child process measures everything, because loading takes time of its own. Prompt reading and generation are
measured in turns, so that a busy moment of the machine does not fall on one of them alone; the median is the
figure to quote, the range says how noisy the machine was.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.inference.scoring import PromptScorer, Subject
from smidgen.progress import Event, Progress, silent

PROMPT_TOKENS = 512
GENERATED_TOKENS = 128
FIRST_TOKEN_PROMPT = 64
_FIRST_TOKEN_RUNS = 10
_QUICK_RUNS = 2
_QUICK_FIRST_TOKEN_RUNS = 5


@dataclass(frozen=True)
class Rate:
    """Tokens per second over several runs.

    Attributes:
        mean: Arithmetic mean.
        sd: Sample standard deviation, 0 with one run.
        median: The figure to quote.
        low: Slowest run.
        high: Fastest run.
        runs: How many runs were counted, warm-up not among them.

    Example:
        >>> Rate.of(100, [1.0, 2.0, 4.0]).median
        50.0
    """

    mean: float
    sd: float
    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, tokens: int, seconds: Sequence[float]) -> Rate:
        """Summarise runs of ``tokens`` tokens each that took these seconds."""
        rates = [tokens / each for each in seconds]
        spread = statistics.stdev(rates) if len(rates) > 1 else 0.0
        return cls(statistics.fmean(rates), spread, statistics.median(rates), min(rates), max(rates), len(rates))


@dataclass(frozen=True)
class Latency:
    """Milliseconds over several runs.

    Attributes:
        p50: Median.
        p95: 95th percentile, interpolated between runs.
        runs: How many runs were counted.

    Example:
        >>> Latency.of([0.01, 0.02, 0.03])
        Latency(p50=20.0, p95=29.0, runs=3)
    """

    p50: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Summarise runs that took these seconds."""
        ordered = sorted(1000 * each for each in seconds)

        def percentile(share: float) -> float:
            place = share * (len(ordered) - 1)
            below = int(place)
            above = min(below + 1, len(ordered) - 1)
            return round(ordered[below] + (place - below) * (ordered[above] - ordered[below]), 6)

        return cls(percentile(0.5), percentile(0.95), len(ordered))


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        pp512: Reading a prompt of 512 tokens, in tokens per second.
        tg128: Generating 128 tokens one by one after an empty prompt, in tokens per second.
        ttft_ms: From a prompt of 64 tokens to the scores of the first token, in milliseconds.
        load_s: From starting a process to a model that is ready, in seconds.
        load_cold: Whether the file was first put out of the system's file cache, where the system allows it.
        peak_rss_bytes: Largest memory that the process held during all this, the model's file included.
        threads: Threads computed with.
        warmup: Runs of each kind that were not counted.
    """

    pp512: Rate
    tg128: Rate
    ttft_ms: Latency
    load_s: float
    load_cold: bool
    peak_rss_bytes: int
    threads: int
    warmup: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


def measure_speed(
    path: str | Path | Subject,
    *,
    threads: int | None = None,
    runs: int = 3,
    warmup: int = 1,
    quick: bool = False,
    progress: Progress = silent,
) -> Speed:
    """Measure how fast a model runs on this machine.

    Args:
        path: The GGUF file or folder, or how it is to be run.
        threads: Threads to compute with; the physical cores that this process may use where None.
        runs: Counted runs of the two throughput tests.
        warmup: Runs before them that are not counted.
        quick: Take 2 counted runs at most and fewer first tokens, for a small budget of time.
        progress: Receives what has been measured so far.

    Raises:
        InvalidInput: Fewer than 1 run or fewer than 0 warm-up runs.
        EngineFailed: The engine refuses the file.
    """
    if runs < 1 or warmup < 0:
        raise InvalidInput(f"{runs} runs after {warmup} for warm-up measure nothing.", remedy="Ask for at least 1 run.")
    runs = min(runs, _QUICK_RUNS) if quick else runs
    first_tokens = _QUICK_FIRST_TOKEN_RUNS if quick else _FIRST_TOKEN_RUNS
    cold = _drop_from_file_cache(path.path if isinstance(path, Subject) else Path(path))
    started = time.perf_counter()
    with PromptScorer(path, threads=threads, context=PROMPT_TOKENS) as scorer:
        load = time.perf_counter() - started
        prefills, decodes = _throughput(scorer, runs, warmup, progress)
        waits = [scorer.time_prefill(FIRST_TOKEN_PROMPT) for _ in range(first_tokens)]
        return Speed(
            pp512=Rate.of(PROMPT_TOKENS, prefills),
            tg128=Rate.of(GENERATED_TOKENS, decodes),
            ttft_ms=Latency.of(waits),
            load_s=load,
            load_cold=cold,
            peak_rss_bytes=scorer.peak_rss_bytes(),
            threads=scorer.threads,
            warmup=warmup,
        )


def _throughput(scorer: PromptScorer, runs: int, warmup: int, progress: Progress) -> tuple[list[float], list[float]]:
    """Return the seconds of the counted runs of both tests, measured in turns."""
    prefills: list[float] = []
    decodes: list[float] = []
    total = warmup + runs
    progress(Event("measuring speed", 0, total, "runs"))
    for number in range(1, total + 1):
        prefills.append(scorer.time_prefill(PROMPT_TOKENS))
        decodes.append(scorer.time_decode(GENERATED_TOKENS))
        note = f"{GENERATED_TOKENS / decodes[-1]:.1f} tok/s"
        progress(Event("measuring speed", number, total, "runs", note))
    return prefills[warmup:], decodes[warmup:]


def _drop_from_file_cache(path: Path) -> bool:
    """Ask the system to forget what it keeps of a file, so that the next reading comes from disk."""
    if not hasattr(os, "posix_fadvise") or not path.is_file():
        return False
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
