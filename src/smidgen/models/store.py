"""The model store: contents by their sha256, names in manifests, safe against crashes and second processes.

blobs/sha256-<hex>          contents, read-only, each once however many models use it
manifests/<name>/<tag>.json which contents make up a model, and its facts
folders/<digest>/           the model under its own file names (links to the blobs)
writers/                    one locked file per process that is adding contents
downloads/                  what sources are fetching; an interrupted download goes on from here
locks/                      one per model that is being fetched

What Ollama keeps on this machine (`smidgen.models.ollama_store`) can be listed and read through it as well.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from smidgen.errors import DamagedFile, InvalidInput, Locked, ReferenceNotFound
from smidgen.models.blobs import Blobs, delete_others, link_to_blob
from smidgen.models.files import (
    TEMPORARY_PREFIX,
    atomic_write,
    make_folder,
    require_free,
    sync_folder,
    writing_error,
)
from smidgen.models.manifest import Manifest, is_file_name
from smidgen.models.names import DEFAULT_TAG, HUB_SPACE, StoreName
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    from smidgen.models.ollama_store import OllamaStore

LOCK_SECONDS = 10.0
KEEP_DOWNLOADS_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class StoredModel:
    """A model in the store.

    Attributes:
        name: Its full name with the tag.
        folder: Where it can be opened under its own file names.
        digests: File name to the sha256 of its contents, in hex.
        facts: What is known of it (source, licence, format, ...).
        bytes: Size of all its files.
        digest: One sha256 for the model: over its files' names and contents.
        added: When it was added, in seconds since 1970.
    """

    name: str
    folder: Path
    digests: Mapping[str, str]
    facts: Mapping[str, Any]
    bytes: int
    digest: str
    added: float

    @property
    def paths(self) -> dict[str, Path]:
        """File name to the path it can be opened at."""
        return {name: self.folder / name for name in sorted(self.digests)}


def default_root() -> Path:
    """Return the store's folder: ``SMIDGEN_HOME``, else the user's data folder."""
    import platformdirs

    chosen = os.environ.get("SMIDGEN_HOME")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("smidgen", appauthor=False))


class Store:
    """The models kept on this machine.

    Nothing is created before the first write.

    Args:
        root: The store's folder; by default ``SMIDGEN_HOME``, else the user's data folder.
        lock_seconds: How long to wait for another process before giving up.
    """

    def __init__(self, root: Path | str | None = None, *, lock_seconds: float = LOCK_SECONDS) -> None:
        self.root = Path(root).absolute() if root is not None else default_root().absolute()
        self.lock_seconds = lock_seconds
        self.blobs = Blobs(self.root / "blobs")

    def add(
        self,
        name: str,
        files: Mapping[str, Path],
        facts: Mapping[str, Any],
        *,
        link: bool = False,
        progress: Progress = silent,
    ) -> StoredModel:
        """Take files into the store under a name, replacing what had it.

        The manifest comes last: killed before it, nothing has changed for a reader.

        Args:
            name: The name, with a tag if wanted.
            files: Name inside the model to the file it is read from; names have no folders in them.
            facts: What is known of the model; plain JSON values.
            link: Share the files' bytes instead of copying them; for files that nothing will ever change.
            progress: Receives the bytes taken in.

        Raises:
            InvalidInput: The name or a file's name is not allowed, or the store cannot be written.
            Locked: Another process holds the store.
            OutOfResources: The disk is full.
        """
        store_name = StoreName.parse(name)
        for file_name in files:
            if not is_file_name(file_name):
                raise InvalidInput(f"{file_name!r} is not a file name a stored model may have.")
        if not files:
            raise InvalidInput(f"The model {name!r} has no files.")
        with self._writing():
            if not link:
                require_free(self.root, sum(path.stat().st_size for path in files.values()))
            contents = {key: self.blobs.take(path, link, progress) for key, path in sorted(files.items())}
            with self._locked():
                self._write(Manifest(store_name, contents, facts, time.time()))
        return self.resolve(str(store_name))

    def resolve(self, name: str) -> StoredModel:
        """Return a stored model, ready to be opened.

        Raises:
            ReferenceNotFound: No model has that name.
            DamagedFile: Its manifest or contents are not whole.
        """
        if (foreign := self._foreign(name)) is not None:
            return foreign
        manifest = self._read(self._existing(name))
        model = self._model(manifest.name)
        self._check_contents(manifest)
        self._link_folder(model)
        return model

    def names(self) -> tuple[str, ...]:
        """List the names of the models that can be resolved: the stored ones, and those of Ollama's store."""
        return tuple(sorted({*self._own_names(), *self._ollama().names()}))

    def list(self) -> tuple[StoredModel, ...]:
        """List the models by name; those of Ollama's store have the fact ``read_only``."""
        own = self._own_names()
        foreign = [model for model in self._ollama().list() if model.name not in own]
        return tuple(sorted((*self._models(map(StoreName.parse, own)), *foreign), key=lambda model: model.name))

    def versions(self, name: str) -> tuple[StoredModel, ...]:
        """List the stored models that have this name with any tag, newest first."""
        wanted = StoreName.parse(name)
        paths = self._manifest(wanted).parent.glob("*.json")
        names = (StoreName.of_manifest(PurePosixPath(*wanted.parts, path.name)) for path in paths)
        models = self._models(name for name in names if name is not None)
        return tuple(sorted(models, key=lambda model: model.added, reverse=True))

    def remove(self, name: str) -> int:
        """Forget a model and free what no other model uses.

        Returns:
            The bytes freed; 0 while another process adds a model, since its contents are not told apart.

        Raises:
            ReferenceNotFound: No model has that name.
        """
        path = self._manifest(self._existing(name))
        with self._locked():
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
        try:
            return self.collect_garbage()
        except Locked:
            return 0

    def copy(self, source: str, target: str) -> StoredModel:
        """Give a stored model a second name; the contents are shared. One of Ollama's store is taken in."""
        name = StoreName.parse(target)
        if (foreign := self._foreign(source)) is not None:
            return self._take_in(foreign, name)
        existing = self._existing(source)
        with self._locked():
            self._write(replace(self._read(existing), name=name))
        return self.resolve(str(name))

    def describe(self, name: str, facts: Mapping[str, Any]) -> StoredModel:
        """Replace what is known of a stored model; its contents stay."""
        existing = self._existing(name)
        with self._locked():
            self._write(replace(self._read(existing), facts=facts))
        return self.resolve(name)

    def collect_garbage(self) -> int:
        """Delete what no manifest names, left-over temporary files and downloads abandoned for a week.

        Returns:
            The bytes of the contents deleted.

        Raises:
            Locked: Another process is adding a model.
            DamagedFile: A manifest cannot be read, so that it is not known what it uses.
        """
        if not self.root.is_dir():
            return 0
        with self._locked():
            self._require_no_writers()
            manifests = [self._read(StoreName.parse(name)) for name in self._own_names()]
            blobs = {content.blob for manifest in manifests for content in manifest.files.values()}
            freed = self.blobs.keep_only(blobs)
            delete_others(self.root / "folders", {manifest.digest for manifest in manifests})
            for leftover in (self.root / "manifests").rglob(f"{TEMPORARY_PREFIX}*"):
                leftover.unlink(missing_ok=True)
            self._delete_old_downloads()
        return freed

    @contextmanager
    def fetching(self, name: str, progress: Progress = silent) -> Iterator[Path]:
        """Hold the right to fetch one model, waiting (with a report) while another process fetches it.

        Yields:
            A folder for the download, kept when the block fails so that the next try can go on from it, and
            deleted when it ends well.
        """
        store_name = StoreName.parse(name)
        key = "+".join((*store_name.parts, store_name.tag))
        lock = FileLock(make_folder(self.root / "locks") / f"{key}.lock")
        while True:
            try:
                lock.acquire(timeout=0.2)
                break
            except Timeout:
                progress(Event(f"waiting for another process that fetches {name}"))
        try:
            folder = make_folder(self.root / "downloads" / key)
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()

    def _manifest(self, name: StoreName) -> Path:
        return name.manifest(self.root / "manifests")

    def _existing(self, name: str) -> StoreName:
        wanted = StoreName.parse(name)
        if self._manifest(wanted).is_file():
            return wanted
        if wanted.parts[0] == HUB_SPACE and wanted.tag == DEFAULT_TAG:
            commits = self.versions(name)
            if commits:
                return StoreName.parse(commits[0].name)
        if str(wanted) in self._ollama().names():
            raise InvalidInput(
                f"{name} is kept by Ollama, whose store is only read.", remedy=f"Take it in: smidgen cp {name} NAME."
            )
        raise ReferenceNotFound.among("stored model", name, self._own_names())

    def _own_names(self) -> tuple[str, ...]:
        folder = self.root / "manifests"
        found = (StoreName.of_manifest(PurePosixPath(path.relative_to(folder))) for path in folder.rglob("*.json"))
        return tuple(sorted(str(name) for name in found if name is not None))

    def _ollama(self) -> OllamaStore:
        from smidgen.models.ollama_store import OllamaStore

        return OllamaStore()

    def _foreign(self, name: str) -> StoredModel | None:
        """Return a model of Ollama's store, None where there is none or an own one has its name."""
        wanted = StoreName.parse(name)
        return None if self._manifest(wanted).is_file() else self._ollama().resolve(str(wanted))

    def _take_in(self, foreign: StoredModel, name: StoreName) -> StoredModel:
        facts = {key: value for key, value in foreign.facts.items() if key != "read_only"}
        return self.add(str(name), foreign.paths, facts)

    def _read(self, name: StoreName) -> Manifest:
        try:
            return Manifest.read(self._manifest(name), name)
        except FileNotFoundError:
            raise ReferenceNotFound.among("stored model", str(name), self._own_names()) from None

    def _write(self, manifest: Manifest) -> None:
        path = self._manifest(manifest.name)
        make_folder(path.parent)
        atomic_write(path, manifest.text())

    def _model(self, name: StoreName) -> StoredModel:
        manifest = self._read(name)
        digests = {key: content.sha256 for key, content in manifest.files.items()}
        folder = self.root / "folders" / manifest.digest
        return StoredModel(str(name), folder, digests, manifest.facts, manifest.bytes, manifest.digest, manifest.added)

    def _models(self, names: Iterable[StoreName]) -> tuple[StoredModel, ...]:
        models = []
        for name in names:
            with suppress(ReferenceNotFound):  # removed by another process since it was listed
                models.append(self._model(name))
        return tuple(models)

    def _check_contents(self, manifest: Manifest) -> None:
        for key, content in manifest.files.items():
            if not self.blobs.holds(content):
                raise DamagedFile(
                    f"The stored model {manifest.name} has lost the contents of {key}.",
                    remedy=f"Remove it with 'smidgen rm {manifest.name}' and pull it again.",
                )

    def _link_folder(self, model: StoredModel) -> None:
        if all(path.is_file() for path in model.paths.values()):
            return
        make_folder(model.folder.parent)
        shutil.rmtree(model.folder, ignore_errors=True)
        staged = model.folder.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        staged.mkdir()
        try:
            for file_name, digest in model.digests.items():
                link_to_blob(self.blobs.folder / f"sha256-{digest}", staged / file_name)
            os.replace(staged, model.folder)
        except OSError as error:
            if not all(path.is_file() for path in model.paths.values()):  # another process may have been faster
                raise writing_error(model.folder, error) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(make_folder(self.root) / "store.lock")
        try:
            lock.acquire(timeout=self.lock_seconds)
        except Timeout:
            raise Locked(
                f"Another process has held the model store {self.root} for {self.lock_seconds:g} s.",
                remedy="Wait until it is done, or end it, then run this again.",
            ) from None
        except OSError as error:
            raise writing_error(self.root, error) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Show other processes, for as long as this one lives, that contents without a manifest are wanted."""
        path = make_folder(self.root / "writers") / f"{uuid.uuid4().hex}.lock"
        lock = FileLock(path)
        with self._locked():
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
            path.unlink(missing_ok=True)

    def _require_no_writers(self) -> None:
        for path in (self.root / "writers").glob("*.lock"):
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise Locked(
                    "Another process is adding a model to the store.",
                    remedy="Nothing was deleted; run this again when it is done.",
                ) from None
            lock.release()
            path.unlink(missing_ok=True)

    def _delete_old_downloads(self) -> None:
        oldest = time.time() - KEEP_DOWNLOADS_SECONDS
        for folder in (self.root / "downloads").glob("*"):
            if max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) < oldest:
                shutil.rmtree(folder, ignore_errors=True)
