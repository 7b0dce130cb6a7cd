"""How much energy the processor took meanwhile, where its counters can be read."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = "sys/class/powercap"
"""Where Linux shows the counters of RAPL (Intel and AMD), one folder per domain."""

_PACKAGE = re.compile(r"intel-rapl(-mmio)?:\d+")
_ABSENT = "Energy is not readable here: there are no RAPL counters, as in most virtual machines and outside Linux."
_FORBIDDEN = "Energy is not readable here: the RAPL counters may be read by root only."


@dataclass(frozen=True)
class Energy:
    """Energy of the whole processor over some work, other programs' share included.

    Attributes:
        joules: Energy taken; None where it could not be read.
        joules_per_token: The same for each token; None where it could not be read.
        tokens: Tokens that were written meanwhile.
        sentence: What it means, or why there is none.
    """

    joules: float | None
    joules_per_token: float | None
    tokens: int
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


class Meter:
    """Reads the counters of all processor packages.

    Domains inside a package (cores, graphics) are part of its figure and not counted again.

    Args:
        root: Where the system's ``sys`` folder lies.

    Attributes:
        reason: Why nothing can be read; empty where it can.

    Example:
        >>> Meter(Path("/nowhere")).reason.startswith("Energy is not readable here")
        True
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._packages = [
            each
            for each in sorted((root / FOLDER).glob("intel-rapl*"))
            if _PACKAGE.fullmatch(each.name) and _name(each).startswith("package")
        ]
        self.reason = _ABSENT
        self._last: dict[Path, int] = {}
        if self._packages:
            self._last = self._read()
            self.reason = "" if len(self._last) == len(self._packages) else _FORBIDDEN

    def since(self) -> float:
        """Return the joules taken since the last call, or since the meter was made; 0 where nothing can be read.

        The counters begin anew at a bound that the system names; less than one round is taken to lie between calls,
        which is a minute at least.
        """
        if self.reason:
            return 0.0
        now = self._read()
        spent = 0
        for package, count in now.items():
            passed = count - self._last[package]
            spent += passed if passed >= 0 else passed + (_number(package / "max_energy_range_uj") or 0)
        self._last = now
        return spent / 1e6

    def _read(self) -> dict[Path, int]:
        found = {each: _number(each / "energy_uj") for each in self._packages}
        return {each: count for each, count in found.items() if count is not None}


def energy_of(joules: float, tokens: int, reason: str) -> Energy:
    """Return what energy some tokens took.

    Example:
        >>> energy_of(30.0, 60, "").sentence
        'Writing takes 0.50 joules per token, for the whole processor.'
    """
    if reason:
        return Energy(None, None, tokens, reason)
    each = joules / tokens
    return Energy(joules, each, tokens, f"Writing takes {each:.2f} joules per token, for the whole processor.")


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
