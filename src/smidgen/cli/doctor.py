"""``smidgen doctor``: what this machine can run, and what would make it faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen

if TYPE_CHECKING:
    from smidgen.machine import Machine

MODEL_SIZES = {"80 MB": 80_000_000, "1 GB": 10**9, "4 GB": 4 * 10**9}
"""Sizes of model files the speed limit is shown for, in bytes."""

_BEYOND_AVX2 = ("avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
_LITTLE_MEMORY = 4 * 10**9
_LITTLE_DISK = 5 * 10**9


def command(settings: Settings) -> None:
    """Show what this machine can run, and what would make it faster."""
    screen = Screen(settings.json, settings.quiet)
    report = examine()
    screen.result(report, lambda: _show(screen, report))


def examine() -> dict[str, Any]:
    """Collect what the command shows: machine, bandwidth, engines, store, speed limits and advice."""
    import os
    import shutil

    from smidgen import machine
    from smidgen.models.store import default_root

    store = default_root()
    found = machine.inspect(store, ask_torch=shutil.which("nvidia-smi") is not None)
    bandwidth = machine.bandwidth()
    engines = {"xllamacpp": found.versions["xllamacpp"], "llama-server": shutil.which("llama-server")}
    token = bool(os.environ.get("HF_TOKEN"))
    return {
        "machine": found.to_dict(),
        "bandwidth_bytes_per_second": round(bandwidth),
        "engines": engines,
        "store": {"folder": str(store), "disk_free": found.disk_free},
        "hf_token": token,
        "speed_limit_tokens_per_second": {name: speed_limit(bandwidth, size) for name, size in MODEL_SIZES.items()},
        "advice": advise(found, engines, token=token),
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


def advise(found: Machine, engines: dict[str, str | None], *, token: bool) -> list[str]:
    """Say what would make this machine faster or able to do more, most useful first.

    Args:
        found: The machine.
        engines: Where each inference engine is, None for those that are not there.
        token: Whether ``HF_TOKEN`` is set.
    """
    advice = []
    if engines["xllamacpp"] is None and engines["llama-server"] is None:
        advice.append("No inference engine is there. Install one with: pip install xllamacpp")
    wider = [flag for flag in _BEYOND_AVX2 if flag in found.flags]
    if wider and engines["llama-server"] is None:
        advice.append(
            f"This processor has {', '.join(wider)}; the bundled engine is built for AVX2 only. A llama-server "
            "built on this machine and put on PATH writes up to about 1.2 times faster."
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
        ("bandwidth", f"{format_size(report['bandwidth_bytes_per_second'])}/s"),
        ("GPU", gpus or "none"),
        ("engines", ", ".join(f"{name}: {where or 'not there'}" for name, where in report["engines"].items())),
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
