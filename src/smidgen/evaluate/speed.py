"""How fast models run in the engine that users get: llama-bench's two tests, first token, load, memory and energy.

One child process measures everything of a model, because loading takes time of its own. Prompt reading and generation
are measured in turns, and so are several models, so that a busy moment of the machine does not fall on one of them
alone; the median is the figure to quote, the range says how noisy the machine was.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smidgen import machine
from smidgen.errors import InvalidInput
from smidgen.evaluate.energy import Energy, Meter, added, energy_of
from smidgen.inference.scoring import PromptScorer, Subject
from smidgen.progress import Event, Progress, silent

PROMPT_TOKENS = 512
GENERATED_TOKENS = 128
FIRST_TOKEN_PROMPT = 64
_FIRST_TOKEN_RUNS = 10
_QUICK_RUNS = 2
_QUICK_FIRST_TOKEN_RUNS = 5

NOISY = 0.1
"""Share of the median that runs may lie apart before the machine counts as noisy."""

_BESIDE_FILE = 200_000_000  # bytes that a process takes besides the model's file
_MEMORY_SHARE = 0.7  # of what is free, that models measured in turns may take together


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
        p99: 99th percentile.

    Example:
        >>> Latency.of([0.01, 0.02, 0.03])
        Latency(p50=20.0, p95=29.0, runs=3, p99=29.8)
    """

    p50: float
    p95: float
    runs: int
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Summarise runs that took these seconds."""
        ordered = sorted(1000 * each for each in seconds)

        def percentile(share: float) -> float:
            place = share * (len(ordered) - 1)
            below = int(place)
            above = min(below + 1, len(ordered) - 1)
            return round(ordered[below] + (place - below) * (ordered[above] - ordered[below]), 6)

        return cls(percentile(0.5), percentile(0.95), len(ordered), percentile(0.99))


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another model one wrote, run beside run.

    Attributes:
        median: The figure to quote.
        low: Smallest of the runs' ratios.
        high: Largest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, mine: Sequence[float], others: Sequence[float]) -> Ratio:
        """Compare the seconds that the same runs took, ``mine`` and those of the other."""
        ratios = [other / own for own, other in zip(mine, others, strict=True)]
        return cls(statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        pp512: Reading a prompt of 512 tokens, in tokens per second.
        tg128: Generating 128 tokens one by one after an empty prompt, in tokens per second.
        ttft_ms: From a prompt of 64 tokens to the scores of the first token, in milliseconds.
        between_tokens_ms: From one token's scores to the next one's, in milliseconds.
        load_s: From starting a process to a model that is ready, in seconds.
        load_cold: Whether the file was first put out of the system's file cache, where the system allows it.
        peak_rss_bytes: Largest memory that the process held during all this, the model's file included.
        threads: Threads computed with.
        warmup: Runs of each kind that were not counted.
        noise: How far apart the runs of one kind lay, as a share of their median, the larger of both kinds.
        energy: Of writing.
        beside_first: How many times as fast as the first model it wrote, where several were measured in turns.
        first_again: The first model run twice in every round: what two equal models would seem to differ by.
    """

    pp512: Rate
    tg128: Rate
    ttft_ms: Latency
    between_tokens_ms: Latency
    load_s: float
    load_cold: bool
    peak_rss_bytes: int
    threads: int
    warmup: int
    noise: float
    energy: Energy
    beside_first: Ratio | None = None
    first_again: Ratio | None = None

    @property
    def noisy(self) -> bool:
        """Whether the runs lay so far apart that their median may be off by a tenth."""
        return self.noise > NOISY

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self) | {"noisy": self.noisy}

    def cost(self, price: float) -> float:
        """Return what writing a million tokens costs, one answer after another, at a price per hour of the machine."""
        return price / 3600 / self.tg128.median * 1e6


@dataclass
class _Bench:
    """One model under measurement: its process, and the seconds of its runs."""

    scorer: PromptScorer
    load: float
    cold: bool
    meter: Meter
    prefills: list[float] = field(default_factory=list)
    tokens: list[list[float]] = field(default_factory=list)
    joules: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str | Path | Subject, threads: int | None) -> _Bench:
        """Load a model, from disk where the system can be made to."""
        cold = _drop_from_file_cache(path.path if isinstance(path, Subject) else Path(path))
        started = time.perf_counter()
        scorer = PromptScorer(path, threads=threads, context=PROMPT_TOKENS)
        return cls(scorer, time.perf_counter() - started, cold, Meter())

    def run(self) -> float:
        """Read once and write once; returns the seconds of writing."""
        self.prefills.append(self.scorer.time_prefill(PROMPT_TOKENS))
        self.meter.since()
        self.tokens.append(self.scorer.time_each_token(GENERATED_TOKENS)[1])
        self.joules = added(self.joules, self.meter.since())
        return sum(self.tokens[-1])

    def forget(self) -> None:
        """Count nothing of what ran so far."""
        self.prefills, self.tokens, self.joules = [], [], {}

    def speed(self, warmup: int, first_tokens: int, beside: Ratio | None, again: Ratio | None) -> Speed:
        """Measure first tokens and summarise."""
        waits = [self.scorer.time_prefill(FIRST_TOKEN_PROMPT) for _ in range(first_tokens)]
        read = Rate.of(PROMPT_TOKENS, self.prefills)
        written = Rate.of(GENERATED_TOKENS, [sum(each) for each in self.tokens])
        return Speed(
            pp512=read,
            tg128=written,
            ttft_ms=Latency.of(waits),
            between_tokens_ms=Latency.of([each for run in self.tokens for each in run]),
            load_s=self.load,
            load_cold=self.cold,
            peak_rss_bytes=self.scorer.peak_rss_bytes(),
            threads=self.scorer.threads,
            warmup=warmup,
            noise=max((rate.high - rate.low) / rate.median for rate in (read, written)),
            energy=energy_of(self.joules, GENERATED_TOKENS * len(self.tokens), self.meter.reason),
            beside_first=beside,
            first_again=again,
        )


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
    runs = min(runs, _QUICK_RUNS) if quick else runs
    first_tokens = _QUICK_FIRST_TOKEN_RUNS if quick else _FIRST_TOKEN_RUNS
    return _in_turns([path], threads, runs, warmup, first_tokens, progress)[0]


def measure_speeds(
    paths: Sequence[str | Path | Subject],
    *,
    threads: int | None = None,
    runs: int = 3,
    warmup: int = 1,
    progress: Progress = silent,
) -> list[Speed]:
    """Measure several models in turns, A B A B, the first one twice in every round, so that they can be compared.

    Where they do not fit into memory together they are measured one after another and not set beside each other.

    Args:
        paths: The GGUF files or folders, or how they are to be run.
        threads: Threads to compute with; the physical cores that this process may use where None.
        runs: Counted rounds.
        warmup: Rounds before them that are not counted.
        progress: Receives what has been measured so far.

    Raises:
        InvalidInput: Fewer than 1 run or fewer than 0 warm-up runs.
        EngineFailed: The engine refuses a file.
    """
    files = [path.path if isinstance(path, Subject) else Path(path) for path in paths]
    if len(paths) > 1 and sum(_size(file) + _BESIDE_FILE for file in files) < _MEMORY_SHARE * machine.memory()[1]:
        return _in_turns(paths, threads, runs, warmup, _FIRST_TOKEN_RUNS, progress)
    return [measure_speed(path, threads=threads, runs=runs, warmup=warmup, progress=progress) for path in paths]


def _in_turns(
    paths: Sequence[str | Path | Subject],
    threads: int | None,
    runs: int,
    warmup: int,
    first_tokens: int,
    progress: Progress,
) -> list[Speed]:
    """Measure models round by round; see `measure_speeds`."""
    if runs < 1 or warmup < 0:
        raise InvalidInput(f"{runs} runs after {warmup} for warm-up measure nothing.", remedy="Ask for at least 1 run.")
    with ExitStack() as stack:
        benches = []
        for path in paths:
            benches.append(_Bench.of(path, threads))
            stack.enter_context(benches[-1].scorer)
        rounds = _rounds(benches, runs, warmup, progress)
        firsts = [each[0] for each in rounds]
        again = Ratio.of([each[-1] for each in rounds], firsts) if len(benches) > 1 else None
        found = []
        for place, bench in enumerate(benches):
            beside = Ratio.of([each[place] for each in rounds], firsts) if place else None
            found.append(bench.speed(warmup, first_tokens, beside, again))
        return found


def _rounds(benches: Sequence[_Bench], runs: int, warmup: int, progress: Progress) -> list[list[float]]:
    """Run the models in turns; returns of each counted round the seconds of writing, the first model's again last."""
    rounds: list[list[float]] = []
    total = warmup + runs
    progress(Event("measuring speed", 0, total, "runs"))
    for number in range(1, total + 1):
        taken = [bench.run() for bench in benches]
        if len(benches) > 1:
            taken.append(sum(benches[0].scorer.time_each_token(GENERATED_TOKENS)[1]))
        if number <= warmup:
            for bench in benches:
                bench.forget()
        else:
            rounds.append(taken)
        progress(Event("measuring speed", number, total, "runs", f"{GENERATED_TOKENS / taken[0]:.1f} tok/s"))
    return rounds


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _drop_from_file_cache(path: Path) -> bool:
    """Ask the system to forget what it keeps of a file, so that the next reading comes from disk."""
    if not hasattr(os, "posix_fadvise") or not path.is_file():
        return False
    with path.open("rb") as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
