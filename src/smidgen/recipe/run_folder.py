"""The folder that one run works in: locked, swept, and left clean when nothing came of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smidgen.errors import Interrupted, InvalidInput, Locked, SmidgenError
from smidgen.models.files import TEMPORARY_PREFIX, make_folder
from smidgen.recipe import handover, receipt
from smidgen.recipe.journal import Journal

WORK, PLAN = ".smidgen", "plan.json"


@contextmanager
def run_folder(out: Path, identity: dict[str, Any], fresh: bool) -> Iterator[tuple[Path, Journal]]:
    """Open the folder of one run, locked against a second process, with its plan.

    What a killed run was just writing is removed. When the work ends in an error before anything was made, nothing
    is left behind, not even the folder where it was new.

    Args:
        out: The folder; created where missing.
        identity: What the run was asked for.
        fresh: Forget an earlier run in it.

    Raises:
        InvalidInput: It cannot be written, or holds something else.
        Locked: Another process works in it.
        DamagedFile: Its plan cannot be read.
    """
    from filelock import FileLock, Timeout

    if out.exists() and not out.is_dir():
        raise InvalidInput(f"{out} is a file, and a folder is to be written.", remedy="Choose another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / WORK).is_dir():
        raise InvalidInput(f"{out} is not empty and holds no run of smidgen.", remedy="Choose another --out.")
    found = out.is_dir()
    make_folder(out)
    work = make_folder(out / WORK)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Locked(f"Another process is working in {out}.", remedy="Wait for it or choose another --out.") from error
    except OSError as error:
        raise InvalidInput(f"{out} cannot be written: {error.strerror}.", remedy="Choose another --out.") from error
    try:
        _sweep(out)
        if fresh:
            (work / PLAN).unlink(missing_ok=True)
            (out / receipt.NAME).unlink(missing_ok=True)
            shutil.rmtree(work / "steps", ignore_errors=True)
        journal = Journal(work / PLAN, identity)
        try:
            yield out, journal
        except SmidgenError as error:
            if not isinstance(error, Interrupted):
                _tidy(out, found)
            raise
    finally:
        lock.release()


def _sweep(out: Path) -> None:
    """Remove what a killed run was just writing."""
    for leftover in list(out.rglob(f"{TEMPORARY_PREFIX}*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _tidy(out: Path, found: bool) -> None:
    """Leave no folder behind in which nothing was made."""
    if (out / receipt.NAME).exists() or (out / handover.MODEL).exists() or any((out / WORK).glob("steps/*/done.json")):
        return
    shutil.rmtree(out / WORK, ignore_errors=True)
    if not found and not any(out.iterdir()):
        out.rmdir()
