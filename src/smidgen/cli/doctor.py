"""``smidgen doctor``: what this machine can run, and what would make it faster."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.inference.builds import Build
    from smidgen.machine import Machine

MODEL_SIZES = {"80 MB": 80_000_000, "1 GB": 10**9, "4 GB": 4 * 10**9}
"""Sizes of model files the speed limit is shown for, in bytes."""

_BUILT_AS = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16",
    "avx_vnni": "AVX_VNNI",
    "amx_int8": "AMX_INT8",
    "asimddp": "DOTPROD",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
}
"""Processor flags that multiply a language model's matrices, and how llama.cpp calls them."""

_LITTLE_MEMORY = 4 * 10**9
_LITTLE_DISK = 5 * 10**9
_WORTH_SAYING = 1.05
_DEVELOPMENT = "dev"


def command(settings: Settings) -> None:
    """Measure what this machine can run, and say what would make it faster.

    The engines are measured with smollm2:135m where it is in the store; nothing is fetched.
    """
    screen = Screen(settings.json, settings.quiet)
    with screen.progress() as progress:
        report = examine(settings.threads, progress)
    screen.result(report, lambda: _show(screen, report))


def examine(threads: int, progress: Progress = silent) -> dict[str, Any]:
    """Collect what the command shows: machine, measured figures, engines, store, extras, speed limits and advice.

    Args:
        threads: Threads to compute with.
        progress: Receives reports.
    """
    import os
    import shutil

    from smidgen import machine
    from smidgen.evaluate.calibrate import calibration, embedded_file
    from smidgen.evaluate.energy import Meter
    from smidgen.inference import builds
    from smidgen.models.store import default_root

    store = default_root()
    nvidia = shutil.which("nvidia-smi") is not None
    found = machine.inspect(store, ask_torch=nvidia)
    measured = calibration(store, threads=threads, offline=True, again=True, progress=progress)
    program, own = builds.on_path(), builds.bundled(found.versions["xllamacpp"])
    server = None if program is None else builds.measure_server(program, embedded_file(store), threads=threads)
    engines = {"xllamacpp": found.versions["xllamacpp"], builds.SERVER: str(program) if program else None}
    token = bool(os.environ.get("HF_TOKEN"))
    written = None if measured.token_seconds is None else 1 / measured.token_seconds
    meter = Meter()
    return {
        "machine": found.to_dict(),
        "threads": threads,
        "bandwidth_bytes_per_second": round(measured.bandwidth),
        "flops": round(measured.flops),
        "busy": measured.busy,
        "energy": meter.reason or f"readable: {', '.join(meter.parts)}",
        "engines": engines,
        "bundled_engine": None if own is None else own.to_dict() | {"tokens_per_second": written},
        "server_on_path": None if server is None else server.to_dict(),
        "missing_extras": missing_extras(),
        "store": {"folder": str(store), "disk_free": found.disk_free},
        "hf_token": token,
        "speed_limit_tokens_per_second": {
            name: speed_limit(measured.bandwidth, size) for name, size in MODEL_SIZES.items()
        },
        "advice": [
            *advise(found, engines, token=token, features=() if own is None else own.features),
            *_about_server(server, written),
            *_about_setting(found, threads, nvidia=nvidia),
            *([meter.gpu_reason] if meter.gpu_reason else []),
        ],
    }


def missing_extras() -> dict[str, dict[str, Any]]:
    """Return the optional parts of smidgen of which packages are missing: which, and the pip command for them."""
    from importlib import metadata

    missing: dict[str, list[str]] = {}
    for line in metadata.requires("smidgen") or ():
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](.+?)['\"]", marker)
        package = re.match(r"[\w.-]+", requirement.strip())
        if extra is None or package is None or extra[1] == _DEVELOPMENT:
            continue
        try:
            metadata.version(package[0])
        except metadata.PackageNotFoundError:
            missing.setdefault(extra[1], []).append(package[0])
    return {
        extra: {"packages": packages, "command": f"pip install 'smidgen[{extra}]'"}
        for extra, packages in missing.items()
    }


def speed_limit(bandwidth: float, model_bytes: int) -> float:
    """Return the most tokens per second a model can write alone: every token reads the whole file once.

    Args:
        bandwidth: Bytes per second that memory delivers.
        model_bytes: Size of the model's file.

    Example:
        >>> speed_limit(14e9, 80_000_000)
        175.0
    """
    return round(bandwidth / model_bytes, 1)


def advise(found: Machine, engines: dict[str, str | None], *, token: bool, features: Sequence[str] = ()) -> list[str]:
    """Say what would make this machine faster or able to do more, most useful first.

    Args:
        found: The machine.
        engines: Where each inference engine is, None for those that are not there.
        token: Whether ``HF_TOKEN`` is set.
        features: Processor features that the bundled engine was built for, as llama.cpp names them.
    """
    advice = []
    if engines["xllamacpp"] is None and engines["llama-server"] is None:
        advice.append("No inference engine is there. Install one with: pip install xllamacpp")
    idle = [flag for flag, name in _BUILT_AS.items() if flag in found.flags and features and name not in features]
    if idle and engines["llama-server"] is None:
        used = ", ".join(name for name in _BUILT_AS.values() if name in features) or "none of these"
        advice.append(
            f"This processor has {', '.join(idle)}, which the bundled engine was not built for (it uses {used}). A "
            "llama-server built on this machine may be faster: put it on PATH, and smidgen doctor measures whether."
        )
    if not found.fast_bfloat16 and not found.gpus:
        advice.append("No fast bfloat16 here: training runs in float32, at about half the speed and twice the memory.")
    if found.memory_available < _LITTLE_MEMORY:
        advice.append("Little memory is free: close other programs before shrinking models above 500 MB.")
    if found.disk_free < _LITTLE_DISK:
        advice.append("Little disk is free: set SMIDGEN_HOME to a folder on a larger disk.")
    if not token:
        advice.append("HF_TOKEN is not set: gated models of the Hugging Face hub cannot be pulled.")
    return advice


def _about_server(server: Build | None, bundled: float | None) -> list[str]:
    """Say whether a llama-server on PATH is faster than the bundled engine, where both were measured."""
    if server is None:
        return []
    if bundled is None:
        return ["The llama-server on PATH was not compared with the bundled engine: smidgen pull smollm2:135m first."]
    if server.tokens_per_second is None:
        return [f"The llama-server on PATH could not be measured: {server.reason}."]
    ratio = server.tokens_per_second / bundled
    if ratio < _WORTH_SAYING:
        return []
    return [
        f"The llama-server on PATH writes {ratio:.2f} times as fast as the bundled engine "
        f"({server.tokens_per_second:.0f} against {bundled:.0f} tokens/s, measured now): serve your models with it."
    ]


def _about_setting(found: Machine, threads: int, *, nvidia: bool) -> list[str]:
    """Say which settings leave the machine unused."""
    advice = []
    if threads < found.cores_physical:
        advice.append(f"Only {threads} of {found.cores_physical} cores are used: OMP_NUM_THREADS or --threads says so.")
    if nvidia and not found.gpus:
        advice.append("There is a GPU of NVIDIA that torch cannot use: install a torch that was built for CUDA.")
    return advice


def _show(screen: Screen, report: dict[str, Any]) -> None:
    from smidgen.recipe.quantities import format_size

    found = report["machine"]
    gpus = ", ".join(f"{gpu['name']} ({format_size(gpu['memory'])})" for gpu in found["gpus"])
    memory = f"{format_size(found['memory_available'])} free of {format_size(found['memory_total'])}"
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    rows = [
        ("processor", f"{found['processor']} ({found['architecture']})"),
        ("cores", f"{found['cores_physical']} physical, {found['cores_logical']} logical"),
        ("flags", " ".join(found["flags"]) or "not readable here"),
        ("fast bfloat16", "yes" if found["fast_bfloat16"] else "no"),
        ("memory", memory),
        ("bandwidth", f"{format_size(report['bandwidth_bytes_per_second'])}/s, measured"),
        ("arithmetic", f"{report['flops'] / 1e9:,.0f} GFLOP/s in float32, measured"),
        ("threads", f"{report['threads']}{', other programs use the cores too' if report['busy'] else ''}"),
        ("GPU", gpus or "none"),
        ("energy", report["energy"]),
        ("engines", ", ".join(f"{name}: {where or 'not there'}" for name, where in report["engines"].items())),
        *_engine_rows(report),
        *((f"extra {extra}", f"missing: {each['command']}") for extra, each in report["missing_extras"].items()),
        ("store", f"{report['store']['folder']} ({format_size(found['disk_free'])} free)"),
        ("HF_TOKEN", "set" if report["hf_token"] else "not set"),
        ("system", f"{found['platform']}, Python {found['python']}"),
        ("versions", versions),
    ]
    screen.table(("this machine", ""), rows)
    limits = report["speed_limit_tokens_per_second"]
    screen.table(
        ("a model of", "memory allows about"), [(name, f"{limit:,.1f} tok/s") for name, limit in limits.items()]
    )
    if report["advice"]:
        screen.text("What would help:")
    for line in report["advice"]:
        screen.text(f"- {line}")


def _engine_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Lay out what the builds of llama.cpp are built for and how fast they write."""
    rows = []
    for name, build in (("bundled build", report["bundled_engine"]), ("build on PATH", report["server_on_path"])):
        if build is None:
            continue
        speed = build["tokens_per_second"]
        wrote = (
            f"{speed:,.0f} tok/s with smollm2:135m" if speed else build["reason"] or "smollm2:135m is not in the store"
        )
        rows.append((name, f"{' '.join(build['features']) or 'says nothing of its features'}; {wrote}"))
    return rows
