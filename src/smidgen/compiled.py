"""Loops that are compiled on first use, and rows shared out among threads.

For arithmetic whose every step depends on the one before, or that tries many candidates on a few numbers: as tensor
operations it would spend its time on memory traffic and on calls.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numba import njit

Array = np.ndarray[Any, np.dtype[Any]]
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

FREEDOMS = {"reassoc", "contract", "arcp", "nsz"}
"""Sums may be reordered and multiplications fused; infinities and NaN keep their meaning."""


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function of arrays; it runs without Python's lock and its machine code is kept on disk."""
    made: Callable[..., None] = njit(cache=True, nogil=True, fastmath=FREEDOMS, error_model="numpy")(function)
    return made


def inlined(function: Function) -> Function:
    """Compile a small function of numbers into those that call it."""
    made: Function = njit(inline="always", fastmath=FREEDOMS, error_model="numpy")(function)
    return made


def in_slices(work: Callable[[slice], Result], total: int, step: int, threads: int) -> list[Result]:
    """Call a function for every slice of so many rows, several at a time, and return what it gave in order.

    Args:
        work: Called with ``slice(0, step)``, ``slice(step, 2 * step)`` …; gains from threads where it lets go of
            Python's lock.
        total: Count of rows.
        step: Rows per slice, the last one may have fewer.
        threads: How many slices are worked on at once.

    Example:
        >>> in_slices(lambda rows: sum(range(100)[rows]), 100, 30, threads=2)
        [435, 1335, 2235, 945]
    """
    slices = [slice(start, min(start + step, total)) for start in range(0, total, step)]
    if threads == 1 or len(slices) == 1:
        return [work(part) for part in slices]
    with ThreadPoolExecutor(min(threads, len(slices))) as pool:
        return list(pool.map(work, slices))
