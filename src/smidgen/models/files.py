"""Files written so that a crash leaves the old one or the new one, and figures about disks and contents."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from smidgen.errors import InvalidInput, OutOfResources, ReferenceNotFound
from smidgen.progress import Event, Progress, silent

TEMPORARY_PREFIX = ".tmp"
"""Of what is not finished; safetensors' own unfinished files begin so too."""

CHUNK = 1 << 22

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def writing_error(path: Path, error: OSError) -> Exception:
    """Turn a failed write into an error for a person; an unknown kind is returned as it is."""
    if error.errno in _FULL:
        return OutOfResources(f"The disk that holds {path} is full.", remedy="Free some space, then run it again.")
    if error.errno in _REFUSED:
        reason = (error.strerror or str(error)).lower()
        return InvalidInput(f"{path} cannot be written: {reason}.", remedy="Name a place that you may write to.")
    return error


@contextmanager
def open_for_reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file's bytes, with an error for a person where that is refused.

    Raises:
        ReferenceNotFound: There is no such file.
        InvalidInput: It may not be read.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115 - errors of opening are told apart from those of the block
    except FileNotFoundError:
        raise ReferenceNotFound(f"There is no file {path}.") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidInput(
            f"{path} cannot be read: {reason}.", remedy="Check that it is a file you may read."
        ) from error
    with file:
        yield file


def projector_beside(path: Path) -> Path:
    """Return where what a model's GGUF reads images with lies, a GGUF of its own.

    Example:
        >>> projector_beside(Path("small/model.gguf")).as_posix()
        'small/mmproj-model.gguf'
    """
    return path.with_name(f"mmproj-{path.name}")


def make_folder(path: Path) -> Path:
    """Create a folder with its parents, with an error for a person where that is refused."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise writing_error(path, error) from error
    return path


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the system can (Windows has no such call)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's bytes durable."""
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Lend a temporary path beside `path`; what was written there takes its name when the block ends well.

    For writers that want a path of their own. The temporary name keeps the suffix, and the file has the usual rights
    whatever the writer gave it. When the block raises, the
    temporary file goes and `path` stays as it was; a killed process leaves at most a file whose name begins
    with `TEMPORARY_PREFIX`.

    Raises:
        InvalidInput: The folder is missing or may not be written.
        OutOfResources: The disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{target.name[-120:]}")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise writing_error(target, error) from error
    try:
        usual = temporary.stat().st_mode
        yield temporary
        temporary.chmod(usual)
        sync_file(temporary)
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise writing_error(target, error) from error
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise writing_error(target, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path | str, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, fsync it and rename it, so that a reader sees all of it or nothing.

    Args:
        path: The file; its folder must exist.
        content: The bytes, a text (stored as UTF-8), or a function that writes to the open binary file.

    Raises:
        InvalidInput: The folder is missing or may not be written.
        OutOfResources: The disk is full.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> atomic_write(target, "all or nothing")
        >>> target.read_text(encoding="utf-8")
        'all or nothing'
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if isinstance(content, str):
            file.write(content.encode("utf-8"))
        elif isinstance(content, bytes):
            file.write(content)
        else:
            content(file)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Lend a temporary folder beside `path` that takes its name when the block ends well.

    A folder already there is replaced: it is set aside first, so that a crash between the two renames leaves
    the whole new folder and the whole old one under temporary names, never a mixture.

    Raises:
        InvalidInput: The parent folder is missing or may not be written, or `path` is a file.
        OutOfResources: The disk is full.
    """
    target = Path(path)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{target.name[-120:]}")
    aside = temporary.with_name(f"{temporary.name}.old")
    try:
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file")
        temporary.mkdir()
    except OSError as error:
        raise writing_error(target, error) from error
    try:
        yield temporary
        _share_tree(temporary)
        _sync_tree(temporary)
        try:
            if target.exists():
                os.replace(target, aside)
            os.replace(temporary, target)
        except OSError as error:
            if aside.exists():
                os.replace(aside, target)
            raise writing_error(target, error) from error
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in _FULL:
            raise writing_error(target, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _share_tree(folder: Path) -> None:
    """Let whoever may read the folder read its files: safetensors writes its own for the owner alone."""
    readable = folder.stat().st_mode & 0o444
    for place in folder.rglob("*"):
        if place.is_file() and not place.is_symlink():
            place.chmod(place.stat().st_mode | readable)


def _sync_tree(folder: Path) -> None:
    for place in sorted(folder.rglob("*")):
        if place.is_dir() and not place.is_symlink():
            sync_folder(place)
        elif not place.is_symlink():
            sync_file(place)
    sync_folder(folder)


def copy_bytes(source: IO[bytes], target: IO[bytes] | None, report: Callable[[int], None]) -> str:
    """Copy a stream (or only read it, with no target) and return the sha256 of what went through, in hex."""
    digest = hashlib.sha256()
    done = 0
    while block := source.read(CHUNK):
        digest.update(block)
        if target is not None:
            target.write(block)
        done += len(block)
        report(done)
    return digest.hexdigest()


def sha256_of(path: Path | str, progress: Progress = silent) -> str:
    """Return the sha256 of a file's bytes, in hex.

    Raises:
        ReferenceNotFound: There is no such file.
        InvalidInput: It may not be read.
    """
    file_path = Path(path)
    with open_for_reading(file_path) as file:
        total = file_path.stat().st_size
        return copy_bytes(file, None, lambda done: progress(Event("checking", done, total, "bytes", file_path.name)))


def digest_of_files(digests: Mapping[str, str]) -> str:
    """Return one sha256 for several files: over their sorted names and the sha256 of each.

    Args:
        digests: File name to the file's sha256 in hex.

    Example:
        >>> digest_of_files({"b": "22", "a": "11"}) == digest_of_files({"a": "11", "b": "22"})
        True
    """
    lines = "".join(f"{name}\0{digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def free_bytes(path: Path | str) -> int:
    """Return the bytes that may still be written on the disk that holds `path` (which need not exist yet)."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require_free(path: Path | str, needed: int) -> None:
    """Refuse to start what the disk cannot hold.

    Args:
        path: Where the bytes will go.
        needed: How many bytes.

    Raises:
        OutOfResources: Fewer bytes are free.
    """
    free = free_bytes(path)
    if free < needed:
        raise OutOfResources(
            f"{needed / 1e6:,.0f} MB are needed at {path}, and {free / 1e6:,.0f} MB are free.",
            remedy="Free some space or name a place on another disk.",
        )
