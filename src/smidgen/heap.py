"""What becomes of memory that was freed: kept for the next tensor while heavy work runs, given back after it.

glibc maps every large block anew and gives it back when it is freed, so that each tensor of a training step is paid
for a second time in page faults: a quarter to two fifths of the processor time of a step of smollm2:135m on two cores.
See mallopt(3).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

_TRIM_THRESHOLD, _TOP_PAD, _MAP_THRESHOLD, _MAPPED_BLOCKS = -1, -2, -3, -4
"""The numbers by which mallopt(3) knows M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD and M_MMAP_MAX."""

_WITHIN = ((_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20), (_MAPPED_BLOCKS, 0))
_OUTSIDE = ((_TRIM_THRESHOLD, 64 << 20), (_TOP_PAD, 128 << 10), (_MAP_THRESHOLD, 32 << 20), (_MAPPED_BLOCKS, 65_536))
"""While heavy work runs, and what glibc's own defaults come to in a process that has freed a large block."""

_depth, _lock = 0, Lock()


@contextmanager
def reused() -> Iterator[None]:
    """Keep freed memory with the process while the block (or the decorated function) runs; what is free then goes back.

    Nothing happens where the C library is another one, or where the environment sets malloc's own variables. Blocks
    may be nested; the outermost counts.

    Example:
        >>> with reused():
        ...     sum(bytearray(1000))
        0
    """
    global _depth
    library = _library()
    if library is None:
        yield
        return
    with _lock:
        _depth += 1
        if _depth == 1:
            _set(library, _WITHIN)
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _set(library, _OUTSIDE)
                library.malloc_trim(ctypes.c_size_t(0))


def _set(library: ctypes.CDLL, options: tuple[tuple[int, int], ...]) -> None:
    for option, value in options:
        library.mallopt(option, value)


@cache
def _library() -> ctypes.CDLL | None:
    decided = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if decided or platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
