"""Quantities as people write them: sizes, durations, speeds and shares, read and shown.

Every reader takes ``name``, the option or field it reads for, so that its error says where the fault is.
"""

from __future__ import annotations

import re
from decimal import Decimal

from smidgen.errors import InvalidInput

SIZE_UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
"""Bytes per unit of size, in lower case: KB to TB are decimal, KiB to TiB binary."""

DURATION_UNITS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0, "ms": 0.001}
"""Seconds per unit of time."""

_NUMBER = r"\d{1,24}(?:\.\d{1,24})?|\.\d{1,24}"
_SIZE = re.compile(rf"({_NUMBER})\s*([a-z]*)", re.ASCII)
_DURATION = re.compile(rf"({_NUMBER})\s*(min|ms|d|h|m|s)\s*", re.ASCII)
_SPEED = re.compile(rf"({_NUMBER})\s*(?:(?:tok|tokens?|t)\s*/\s*s(?:ec(?:ond)?)?)?", re.ASCII)
_SHARE = re.compile(rf"({_NUMBER})\s*(%?)", re.ASCII)
_LARGEST_SIZE = 2**60


def parse_size(text: str, *, name: str = "size") -> int:
    """Read a size with its unit, in bytes; fractions of a byte are dropped.

    Args:
        text: A number and a unit: B, KB to TB (powers of 1000), KiB to TiB (powers of 1024). Case does not matter.
        name: What is being read, for the error.

    Raises:
        InvalidInput: There is no unit, the unit is unknown, or the size is not between 1 byte and 1 EiB.

    Example:
        >>> parse_size("80MB"), parse_size("1.5 GiB")
        (80000000, 1610612736)
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidInput(f"{name} {text!r} is not a size.", remedy="Write it like 900MB, 1.5GB or 2GiB.")
    number, unit = match.groups()
    if not unit:
        raise InvalidInput(
            f"{name} {text!r} has no unit.", remedy=f"Write it like {number}MB, {number}MiB, {number}GB or {number}GiB."
        )
    if unit not in SIZE_UNITS:
        raise InvalidInput(
            f"{name} {text!r} has the unknown unit {unit!r}.",
            remedy="Known: B, KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024).",
        )
    size = int(Decimal(number) * SIZE_UNITS[unit])
    if not 1 <= size <= _LARGEST_SIZE:
        raise InvalidInput(f"{name} {text!r} is out of range.", remedy="It must be at least 1B and at most 1048576TiB.")
    return size


def parse_duration(text: str, *, name: str = "duration") -> float:
    """Read a duration, in seconds.

    Args:
        text: One or several numbers with units, the largest unit first: d, h, min or m, s, ms.
        name: What is being read, for the error.

    Raises:
        InvalidInput: A unit is missing, unknown or out of order, or the duration is zero.

    Example:
        >>> parse_duration("1h30m"), parse_duration("90s")
        (5400.0, 90.0)
    """
    examples = "Write it like 90s, 4m or 1h30m."
    stripped = text.strip().lower()
    if re.fullmatch(_NUMBER, stripped):
        raise InvalidInput(
            f"{name} {text!r} has no unit.", remedy=f"Write it like {stripped}s, {stripped}m or {stripped}h."
        )
    seconds, position, previous = Decimal(0), 0, float("inf")
    while position < len(stripped):
        match = _DURATION.match(stripped, position)
        if match is None:
            raise InvalidInput(f"{name} {text!r} is not a duration.", remedy=examples)
        number, unit = match.groups()
        if DURATION_UNITS[unit] >= previous:
            raise InvalidInput(f"{name} {text!r} names its units out of order or twice.", remedy=examples)
        previous = DURATION_UNITS[unit]
        seconds += Decimal(number) * Decimal(str(previous))
        position = match.end()
    if seconds <= 0:
        raise InvalidInput(f"{name} {text!r} is no time at all.", remedy=examples)
    return float(seconds)


def parse_speed(text: str | float, *, name: str = "speed") -> float:
    """Read a speed of writing, in tokens per second.

    Args:
        text: A number, alone or followed by ``tok/s``, ``t/s`` or ``tokens/s``.
        name: What is being read, for the error.

    Raises:
        InvalidInput: It is not a number above zero.

    Example:
        >>> parse_speed("20tok/s"), parse_speed(12.5)
        (20.0, 12.5)
    """
    match = _SPEED.fullmatch(_written(text))
    speed = float(match.group(1)) if match else 0.0
    if speed <= 0:
        raise InvalidInput(
            f"{name} {text!r} is not a speed in tokens per second.", remedy="Write it like 20tok/s or 20."
        )
    return speed


def parse_share(text: str | float, *, name: str = "share") -> float:
    """Read a share of the whole, as a number above 0 and at most 1.

    Args:
        text: A percentage (``95%``) or a fraction (``0.95``).
        name: What is being read, for the error.

    Raises:
        InvalidInput: It is no number, it is zero or above the whole, or a percentage lacks its sign.

    Example:
        >>> parse_share("95%"), parse_share(0.95)
        (0.95, 0.95)
    """
    match = _SHARE.fullmatch(_written(text))
    if match is None:
        raise InvalidInput(f"{name} {text!r} is not a share.", remedy="Write it like 95% or 0.95.")
    number, sign = match.groups()
    share = Decimal(number) / 100 if sign else Decimal(number)
    if not sign and 1 < share <= 100:
        raise InvalidInput(
            f"{name} {text!r} is more than the whole, which is 1.",
            remedy=f"Did you mean {number}%? Write it like {number}% or {float(share) / 100:g}.",
        )
    if not 0 < share <= 1:
        raise InvalidInput(f"{name} {text!r} is not above 0% and at most 100%.", remedy="Write it like 95% or 0.95.")
    return float(share)


def format_size(size: float) -> str:
    """Show a number of bytes in the decimal unit that keeps it short.

    Example:
        >>> format_size(80_000_000), format_size(1_610_612_736), format_size(512)
        ('80.0 MB', '1.6 GB', '512 B')
    """
    amount, units = float(size), iter(("B", "KB", "MB", "GB"))
    for unit in units:
        if abs(amount) < (1000 if unit == "B" else 999.95):
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def format_duration(seconds: float) -> str:
    """Show a duration with its two largest units.

    Example:
        >>> format_duration(0.0123), format_duration(9.5), format_duration(252), format_duration(5400)
        ('12 ms', '9.5 s', '4 min 12 s', '1 h 30 min')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def _written(value: str | float) -> str:
    if isinstance(value, str):
        return value.strip().lower()
    try:
        return f"{Decimal(str(value)):f}"
    except ArithmeticError:
        return str(value)
