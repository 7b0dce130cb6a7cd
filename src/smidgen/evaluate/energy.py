"""How much energy the processor and the GPUs took meanwhile, where their counters can be read."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "sys/class/powercap"
"""Where Linux shows the counters of RAPL (Intel and AMD), one folder per domain."""

_PACKAGE = re.compile(r"intel-rapl(-mmio)?:\d+")
_ABSENT = "Energy is not readable here: there are no RAPL counters, as in most virtual machines and outside Linux."
_FORBIDDEN = "Energy is not readable here: the RAPL counters may be read by root only."
_NO_LIBRARY = "A GPU's energy is read once NVML's package is there: pip install 'smidgen[energy]'"
_UNCOUNTED = "The GPU counts no energy: NVIDIA's do since Volta."

PROCESSOR, GPU = "processor", "GPU"
"""What energy is told of."""


@dataclass(frozen=True)
class Energy:
    """Energy of the whole processor and of all GPUs over some work, other programs' share included.

    Attributes:
        joules: Energy taken; None where it could not be read.
        joules_per_token: The same for each token; None where it could not be read.
        tokens: Tokens that were written meanwhile.
        sentence: What it means, or why there is none.
        parts: Joules of `PROCESSOR` and `GPU`, of those that could be read.
    """

    joules: float | None
    joules_per_token: float | None
    tokens: int
    sentence: str
    parts: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


class Meter:
    """Reads the counters of all processor packages and of all of NVIDIA's GPUs.

    Domains inside a package (cores, graphics) are part of its figure and not counted again.

    Args:
        root: Where the system's ``sys`` folder lies.

    Attributes:
        reason: Why nothing can be read; empty where something can.
        gpu_reason: Why a GPU that is there cannot be read; empty where it can, or none is there.

    Example:
        >>> Meter(Path("/nowhere")).parts in ((), (GPU,))  # no processor there; a GPU where the machine has one
        True
    """

    def __init__(self, root: Path = Path("/")) -> None:
        packages = [
            each
            for each in sorted((root / FOLDER).glob("intel-rapl*"))
            if _PACKAGE.fullmatch(each.name) and _name(each).startswith("package")
        ]
        counts = {each: _number(each / "energy_uj") for each in packages}
        forbidden = None in counts.values()
        self._packages = {each: count for each, count in counts.items() if count is not None and not forbidden}
        self._library, self._gpus, self.gpu_reason = _gpus()
        readable = bool(self._packages or self._gpus)
        self.reason = "" if readable else _FORBIDDEN if forbidden else _ABSENT

    @property
    def parts(self) -> tuple[str, ...]:
        """What can be read, of `PROCESSOR` and `GPU`."""
        return tuple(name for name, found in ((PROCESSOR, self._packages), (GPU, self._gpus)) if found)

    def since(self) -> dict[str, float]:
        """Return the joules taken since the last call, or since the meter was made, of each of `parts`.

        The processor's counters begin anew at a bound that the system names; less than one round is taken to lie
        between calls, which is a minute at least. A GPU's count on from the start of its driver.
        """
        spent = dict.fromkeys(self.parts, 0.0)
        for package, last in self._packages.items():
            now = _number(package / "energy_uj")
            if now is not None:
                passed = now - last
                spent[PROCESSOR] += (passed if passed >= 0 else passed + _bound(package)) / 1e6
                self._packages[package] = now
        for number, last in self._gpus.items():
            now = _millijoules(self._library, number)
            if now is not None:
                spent[GPU] += max(0, now - last) / 1e3
                self._gpus[number] = now
        return spent


def added(some: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    """Return joules of the same names added up.

    Example:
        >>> added({"GPU": 1.0}, {"GPU": 2.5, "processor": 1.0})
        {'GPU': 3.5, 'processor': 1.0}
    """
    return {name: some.get(name, 0.0) + more.get(name, 0.0) for name in {**some, **more}}


def energy_of(joules: Mapping[str, float], tokens: int, reason: str) -> Energy:
    """Return what energy some tokens took.

    Args:
        joules: Joules of `PROCESSOR` and `GPU`, of those that could be read.
        tokens: Tokens that were written meanwhile.
        reason: Why there is no figure; empty where there is one.

    Example:
        >>> energy_of({"processor": 30.0}, 60, "").sentence
        'Writing takes 0.50 joules per token, for the whole processor.'
        >>> energy_of({"processor": 30.0, "GPU": 60.0}, 60, "").sentence
        'Writing takes 1.50 joules per token: 0.50 for the whole processor, 1.00 for the whole GPU.'
    """
    if reason:
        return Energy(None, None, tokens, reason)
    total = sum(joules.values())
    if len(joules) == 1:
        (name,) = joules
        told = f"joules per token, for the whole {name}."
    else:
        told = f"joules per token: {', '.join(f'{each / tokens:.2f} for the whole {n}' for n, each in joules.items())}."
    return Energy(total, total / tokens, tokens, f"Writing takes {total / tokens:.2f} {told}", dict(joules))


def _gpus() -> tuple[Any, dict[int, int], str]:
    """Return NVML, the millijoules that each GPU counted so far by its number, and why a GPU cannot be read."""
    try:
        library = importlib.import_module("pynvml")
    except ImportError:
        return None, {}, _NO_LIBRARY if shutil.which("nvidia-smi") else ""
    try:
        library.nvmlInit()
        numbers = range(library.nvmlDeviceGetCount())
    except library.NVMLError:  # no driver, so no GPU
        return library, {}, ""
    counts = {number: _millijoules(library, number) for number in numbers}
    found = {number: count for number, count in counts.items() if count is not None}
    return library, found, _UNCOUNTED if counts and not found else ""


def _millijoules(library: Any, number: int) -> int | None:
    try:
        return int(library.nvmlDeviceGetTotalEnergyConsumption(library.nvmlDeviceGetHandleByIndex(number)))
    except library.NVMLError:
        return None


def _bound(package: Path) -> int:
    return _number(package / "max_energy_range_uj") or 0


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
