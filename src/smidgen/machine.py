"""What this machine is: processor, cores, memory, bandwidth, GPUs, disk and the versions that matter.

Everything is read for the process that asks: a container's limits and a process's CPU affinity count, not the
host's full size.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "f16c",
    "fma",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""The processor flags that change how fast a language model runs."""

FAST_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of processors that multiply bfloat16 in hardware."""

PACKAGES = ("smidgen", "torch", "transformers", "xllamacpp", "gguf", "numpy")
"""The packages whose versions can change a figure."""

HELD_UP = 1.5
"""Seconds of the clock per second of the processor from which on other programs are taken to hold the work up."""

_UNLIMITED = 2**60
_PRODUCT_SIZE, _PRODUCTS = 64, 256


@dataclass(frozen=True)
class Gpu:
    """One GPU that torch can use.

    Attributes:
        name: The maker's name of it.
        memory: Its memory in bytes.
        device: How torch names it ("cuda:0").
    """

    name: str
    memory: int
    device: str


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        processor: Model name of the processor.
        architecture: Instruction set ("x86_64", "arm64").
        platform: Operating system and its release.
        python: Version of Python.
        cores_physical: Physical cores this process may use, at least 1.
        cores_logical: Logical cores this process may use (affinity and container limit), at least 1.
        flags: Those of `FLAGS` the processor has; empty where they cannot be read.
        fast_bfloat16: Whether the processor multiplies bfloat16 in hardware.
        memory_total: Bytes of memory this process may use.
        memory_available: Bytes of it that are free now.
        disk_free: Free bytes where ``folder`` of `inspect` lies.
        gpus: The GPUs torch can use; empty where torch was neither loaded nor asked.
        versions: Version of each of `PACKAGES`, None where it is not installed.
    """

    processor: str
    architecture: str
    platform: str
    python: str
    cores_physical: int
    cores_logical: int
    flags: tuple[str, ...]
    fast_bfloat16: bool
    memory_total: int
    memory_available: int
    disk_free: int
    gpus: tuple[Gpu, ...]
    versions: dict[str, str | None]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


def inspect(folder: Path | None = None, *, ask_torch: bool = False) -> Machine:
    """Look at this machine.

    Args:
        folder: Where free disk is asked for, the working folder where None; it need not exist yet.
        ask_torch: Import torch to find GPUs. Otherwise they are found only where torch is loaded already.
    """
    information = _processor_information()
    flags = _flags(information)
    physical, logical = cores()
    memory_total, memory_available = memory()
    return Machine(
        processor=_processor_name(information),
        architecture=platform.machine(),
        platform=f"{platform.system()} {platform.release()}".strip(),
        python=platform.python_version(),
        cores_physical=physical,
        cores_logical=logical,
        flags=flags,
        fast_bfloat16=not FAST_BFLOAT16_FLAGS.isdisjoint(flags),
        memory_total=memory_total,
        memory_available=memory_available,
        disk_free=free_disk(folder or Path()),
        gpus=_gpus(ask_torch),
        versions={package: _version(package) for package in PACKAGES},
    )


def cores(root: Path = Path("/")) -> tuple[int, int]:
    """Count the cores this process may use, as (physical, logical), both at least 1.

    CPU affinity and the container's CPU limit are taken into account.

    Args:
        root: Where the system's ``proc`` and ``sys`` folders lie.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
        logical = len(allowed)
        physical = _physical_cores(root, allowed) or min(logical, psutil.cpu_count(logical=False) or logical)
    else:
        logical = os.cpu_count() or 1
        physical = psutil.cpu_count(logical=False) or logical
    for folder in _control_groups(root, "cpu"):
        quota = _cpu_quota(folder)
        if quota is not None:
            logical = min(logical, max(1, int(quota)))
    return max(1, min(physical, logical)), max(1, logical)


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """Return the bytes of memory this process may use, as (in all, free now).

    The container's limit counts where there is one; file cache that can be dropped counts as free.

    Args:
        root: Where the system's ``proc`` and ``sys`` folders lie.
    """
    whole = psutil.virtual_memory()
    total, available = int(whole.total), int(whole.available)
    for folder in _control_groups(root, "memory"):
        limit = _integer(folder / "memory.max") or _integer(folder / "memory.limit_in_bytes")
        used = _integer(folder / "memory.current") or _integer(folder / "memory.usage_in_bytes") or 0
        if limit is None or limit >= _UNLIMITED:
            continue
        statistics = dict(line.split() for line in _text(folder / "memory.stat").splitlines() if len(line.split()) == 2)
        droppable = int(statistics.get("total_inactive_file", statistics.get("inactive_file", 0)))
        total = min(total, limit)
        available = min(available, max(0, limit - used + droppable))
    return total, available


def free_disk(folder: Path) -> int:
    """Return the free bytes where a folder lies or would lie."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def bandwidth(seconds: float = 0.2) -> float:
    """Measure how fast memory is read, or read and written, in bytes per second.

    Blocks larger than common caches are copied and summed by all cores at once; the fastest round of either
    counts, so that a busy moment does not, and where other programs hold the cores up all the time, the processor's
    own seconds do.

    Args:
        seconds: About how long to measure, after the blocks are filled.
    """
    import numpy

    _, available = memory()
    threads = cores()[0]
    length = min(128 << 20, max(4 << 20, available // (8 * threads))) // 8
    sources = [numpy.ones(length) for _ in range(threads)]
    targets = [numpy.ones(length) for _ in range(threads)]
    rate, end = 0.0, time.perf_counter() + seconds
    moved = 8 * length * threads
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() < end or not rate:
            copying = _seconds_of(pool, lambda index: numpy.copyto(targets[index], sources[index]), threads)
            summing = _seconds_of(pool, lambda index: sources[index].sum(), threads)
            rate = max(rate, 2 * moved / copying, moved / summing)
    return rate


def _seconds_of(pool: ThreadPoolExecutor, work: Callable[[int], object], threads: int) -> float:
    """Return how long all threads take for some work at once: by the clock, or by the processor where held up."""

    def timed(index: int) -> float:
        started = time.thread_time()
        work(index)
        return time.thread_time() - started

    started = time.perf_counter()
    spent = max(pool.map(timed, range(threads)))
    clock = time.perf_counter() - started
    return spent if 0 < spent < clock / HELD_UP else clock


def flops(seconds: float = 0.2) -> float:
    """Measure how many float32 operations per second the cores reach together in numpy's products of small matrices.

    The fastest round counts, by the processor's own seconds where other programs hold the cores up.

    Args:
        seconds: About how long to measure.
    """
    import numpy

    threads = cores()[0]
    # Products this small run in one thread each, whatever the library beneath numpy was told.
    one = numpy.ones((_PRODUCT_SIZE, _PRODUCT_SIZE), numpy.float32)
    stacks = [numpy.ones((_PRODUCTS, _PRODUCT_SIZE, _PRODUCT_SIZE), numpy.float32) for _ in range(threads)]
    results = [numpy.empty_like(stack) for stack in stacks]
    done = threads * _PRODUCTS * 2 * _PRODUCT_SIZE**3
    rate, end = 0.0, time.perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        while time.perf_counter() < end or not rate:
            taken = _seconds_of(pool, lambda index: numpy.matmul(stacks[index], one, out=results[index]), threads)
            rate = max(rate, done / taken)
    return rate


def _processor_information() -> dict[str, str]:
    """Read the processor's facts, keys in lower case, as the system gives them."""
    if sys.platform == "darwin":
        keys = ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features")
        return {key: _command_output("sysctl", "-n", key) for key in (*keys, "hw.optional.arm.FEAT_BF16")}
    information: dict[str, str] = {}
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        key, separator, value = line.partition(":")
        if separator:
            information.setdefault(key.strip().lower(), value.strip())
    return information


def _processor_name(information: dict[str, str]) -> str:
    named = (information.get(key, "") for key in ("model name", "machdep.cpu.brand_string", "hardware", "model"))
    return next((name for name in named if name), platform.processor() or platform.machine() or "unknown")


def _flags(information: dict[str, str]) -> tuple[str, ...]:
    keys = ("flags", "features", "machdep.cpu.features", "machdep.cpu.leaf7_features")
    found = {flag for key in keys for flag in information.get(key, "").lower().split()}
    if "avx1.0" in found:
        found.add("avx")
    if "asimd" in found or platform.machine().lower() in {"arm64", "aarch64"}:
        found.add("neon")
    if information.get("hw.optional.arm.FEAT_BF16") == "1":
        found.add("bf16")
    return tuple(flag for flag in FLAGS if flag in found)


def _physical_cores(root: Path, allowed: set[int]) -> int:
    """Count the distinct cores behind the allowed logical ones, 0 where the system does not tell."""
    found = set()
    for number in allowed:
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        core = _text(topology / "core_id").strip()
        if not core:
            return 0
        found.add((_text(topology / "physical_package_id").strip(), core))
    return len(found)


def _control_groups(root: Path, controller: str) -> list[Path]:
    """List the folders of this process's control groups, from its own up to the outermost (versions 1 and 2)."""
    base = root / "sys/fs/cgroup"
    folders: list[Path] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mounts = (base, base / "unified")
        elif controller in controllers.split(","):
            mounts = (base / controllers, base / controller)
        else:
            continue
        for mount in mounts:
            inner = mount / path.strip("/")
            chain = [inner, *inner.parents]
            folders += [folder for folder in chain if folder.is_dir() and (folder == mount or mount in folder.parents)]
    return list(dict.fromkeys(folders))


def _cpu_quota(folder: Path) -> float | None:
    """Return how many processors a control group may use, None without a limit."""
    parts = _text(folder / "cpu.max").split()
    if len(parts) == 2 and parts[0].isdigit():
        return int(parts[0]) / int(parts[1])
    quota, period = _integer(folder / "cpu.cfs_quota_us"), _integer(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _gpus(ask_torch: bool) -> tuple[Gpu, ...]:
    if not ask_torch and "torch" not in sys.modules:
        return ()
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        return ()
    found = ((index, torch.cuda.get_device_properties(index)) for index in range(torch.cuda.device_count()))
    return tuple(Gpu(str(each.name), int(each.total_memory), f"cuda:{index}") for index, each in found)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _integer(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _command_output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
