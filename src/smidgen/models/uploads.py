"""Contents that a client sends before it says what is to be made of them, each under its own digest."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.files import TEMPORARY_PREFIX, make_folder, require_free, sync_folder, writing_error
from smidgen.models.store import Store

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


def sha256_in(digest: str) -> str:
    """Return the hex of a digest, which alone becomes part of a file's name.

    Raises:
        InvalidInput: It is no sha256.

    Example:
        >>> sha256_in("sha256:../../x")
        Traceback (most recent call last):
            ...
        smidgen.errors.InvalidInput: invalid digest format
    """
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidInput("invalid digest format")
    return match[1]


class Uploads:
    """What was sent to a store. What nothing was made of for a week goes with old downloads.

    Args:
        store: The store, whose own contents count as sent already.
    """

    def __init__(self, store: Store) -> None:
        self._blobs = store.blobs.folder
        self.folder = store.root / "downloads" / "uploads"

    def find(self, digest: str) -> Path | None:
        """Return where the contents of a digest lie, None where they were not sent.

        Raises:
            InvalidInput: It is no digest.
        """
        name = f"sha256-{sha256_in(digest)}"
        places = (self.folder / name, self._blobs / name)
        return next((place for place in places if place.is_file()), None)

    def require(self, digest: str) -> Path:
        """Return where the contents of a digest lie.

        Raises:
            ReferenceNotFound: They were not sent.
        """
        found = self.find(digest)
        if found is None:
            raise ReferenceNotFound(f"blob {digest} not found")
        return found

    def forget(self, digest: str) -> None:
        """Delete what was sent under a digest; what the store made of it stays."""
        (self.folder / f"sha256-{sha256_in(digest)}").unlink(missing_ok=True)


class Receiving:
    """Takes in one content, piece by piece. A context manager; left early, nothing stays.

    Args:
        uploads: Where it goes.
        digest: What it promises to be.
        expected: Its bytes where they are known, so that a full disk is found first.

    Raises:
        InvalidInput: It is no digest.
        OutOfResources: The disk cannot hold it.
    """

    def __init__(self, uploads: Uploads, digest: str, expected: int = 0) -> None:
        self._wanted = sha256_in(digest)
        make_folder(uploads.folder)
        require_free(uploads.folder, expected)
        self._target = uploads.folder / f"sha256-{self._wanted}"
        self._temporary = uploads.folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        self._sum = hashlib.sha256()
        self._file: BinaryIO = open(self._temporary, "xb")  # noqa: SIM115 - closed where the block ends

    def write(self, block: bytes) -> None:
        """Take in the next piece.

        Raises:
            OutOfResources: The disk is full.
        """
        self._sum.update(block)
        try:
            self._file.write(block)
        except OSError as error:
            raise writing_error(self._target, error) from error

    def finish(self) -> None:
        """Give it its name.

        Raises:
            InvalidInput: It is not what its digest promised.
        """
        if self._sum.hexdigest() != self._wanted:
            raise InvalidInput("digest mismatch, expected sha256:" + self._wanted)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self._target)
        sync_folder(self._target.parent)

    def __enter__(self) -> Receiving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)
