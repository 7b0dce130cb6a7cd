"""Whether a model is read from disk block by block, and where what is finished of it waits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.cli import _step
from smidgen.cli.options import Settings
from smidgen.errors import InvalidInput, Locked, OutOfResources, Unsupported

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel
    from smidgen.models.streamed import StreamedModel


def wanted(asked: bool | None, settings: Settings, local: LocalModel, parameters: int, *, able: bool) -> bool:
    """Decide whether to read a model block by block.

    Args:
        asked: What the person said; None leaves it to the memory there is.
        settings: Options of every command.
        local: The model.
        parameters: Its count of weights.
        able: Whether what was asked for can be done so: formats are named, and go into a GGUF.

    Raises:
        InvalidInput: It is asked for and cannot be.
    """
    from smidgen.models.streamed import can_stream

    possible = able and can_stream(local)
    if asked and not possible:
        raise InvalidInput(
            "From disk a model is stored in formats of GGUF that are named.",
            remedy="Give --format with a format such as q4_k, and a model that is not packed already.",
        )
    if asked is not None:
        return asked
    try:
        _step.require_memory(settings, parameters, copies=_step.COPIES)
    except OutOfResources:
        return possible
    return False


def require_able(settings: Settings, model: StreamedModel, tokens: int, solver: str, out: Path) -> None:
    """Refuse what this machine cannot end well even with one block in memory at a time.

    Raises:
        Unsupported: Another device than the CPU is asked for.
        OutOfResources: Too little memory or disk.
    """
    from smidgen import machine
    from smidgen.models.files import require_free
    from smidgen.recipe.quantities import format_size
    from smidgen.shrink.quantize.sequential import memory_bytes

    _step.require_cpu(settings)
    needed = memory_bytes(model, tokens, solver)
    free = machine.memory()[1] if settings.max_memory is None else settings.max_memory
    if needed > free:
        allowed = "are free" if settings.max_memory is None else "are allowed by --max-memory"
        raise OutOfResources(
            f"One block at a time needs about {format_size(needed)} of memory, and {format_size(free)} {allowed}.",
            remedy="Use fewer --windows, --solver nearest, or a machine with more memory.",
        )
    # Finished parts, the GGUF made of them, and what one block hands to the next.
    require_free(out.absolute().parent, 2 * model.parameter_count() + 8 * tokens * model.anatomy.hidden_size)


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """Lend the folder beside the result where finished parts wait; it goes when the block ends well.

    Raises:
        Locked: Another process makes the same result.
        Unsupported: The name is taken.
    """
    from filelock import FileLock, Timeout

    from smidgen.models.files import make_folder
    from smidgen.shrink.quantize.keeping import PARTS

    folder = out.absolute().with_name(f".{out.name}.smidgen")
    if folder.is_file():
        raise Unsupported(f"{folder} is in the way.", remedy="Remove it, or choose another --out.")
    make_folder(folder)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Locked(f"Another process is making {out}.", remedy="Wait for it or choose another --out.") from error
    try:
        yield folder
    except BaseException:
        lock.release()
        if not any(folder.rglob(PARTS)):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)
