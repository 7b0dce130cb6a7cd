"""Contents by their sha256, each kept once, and the links under which they are opened."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from smidgen.models.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    copy_bytes,
    make_folder,
    sha256_of,
    sync_file,
    sync_folder,
)
from smidgen.models.manifest import Content
from smidgen.progress import Event, Progress


class Blobs:
    """A folder of read-only contents named ``sha256-<hex>``.

    Args:
        folder: Where they lie; created by the first that is taken in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def take(self, path: Path, link: bool, progress: Progress) -> Content:
        """Bring a file's contents in; they have their name only when they are whole and on the disk.

        Args:
            path: The file.
            link: Share its bytes instead of copying them.
            progress: Receives the bytes done.
        """
        make_folder(self.folder)
        staged = self.folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        total = path.stat().st_size
        try:
            if link:
                digest = sha256_of(path, progress)
                _hard_link(path, staged)
                sync_file(staged)
            else:
                with atomic_path(staged) as temporary, open(path, "rb") as source, open(temporary, "wb") as target:
                    digest = copy_bytes(
                        source, target, lambda done: progress(Event("storing", done, total, "bytes", path.name))
                    )
            content = Content(digest, staged.stat().st_size)
            if not self.holds(content):
                staged.chmod(0o444)
                os.replace(staged, self.folder / content.blob)
                sync_folder(self.folder)
        finally:
            staged.unlink(missing_ok=True)
        return content

    def holds(self, content: Content) -> bool:
        """Say whether these contents are here, by name and size."""
        blob = self.folder / content.blob
        return blob.is_file() and blob.stat().st_size == content.bytes

    def keep_only(self, names: set[str]) -> int:
        """Delete every other blob and left-over temporary file; return the bytes freed."""
        return delete_others(self.folder, names)


def link_to_blob(blob: Path, target: Path) -> None:
    """Make a blob readable under another name, two folders beside it: a symbolic link where the system has them."""
    try:
        target.symlink_to(Path("..", "..", blob.parent.name, blob.name))
    except OSError:
        _hard_link(blob, target)


def delete_others(folder: Path, kept: set[str]) -> int:
    """Delete what lies in a folder under other names; return the bytes of the files among it."""
    freed = 0
    for place in folder.glob("*"):
        if place.name in kept:
            continue
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            freed += place.stat().st_size
            place.unlink(missing_ok=True)
    return freed


def _hard_link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)  # some systems would link to a symbolic link itself
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
