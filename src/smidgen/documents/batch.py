"""Many documents: found by path, extracted side by side in processes of their own, written as they come, resumable."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smidgen import errors
from smidgen.documents.extract import CHOOSING
from smidgen.documents.readers import suffixes
from smidgen.documents.worker import described
from smidgen.errors import EngineFailed, InvalidInput, ReferenceNotFound, SmidgenError
from smidgen.inference.child import Child
from smidgen.models.files import atomic_write, sha256_of, writing_error
from smidgen.progress import Event, Progress, silent

_WORKER = "smidgen.documents.worker"
_PATIENCE = 300.0
_VERSION = 1
"""Goes up when the same document may give another result."""


@dataclass(frozen=True)
class Job:
    """What is done with every document.

    Attributes:
        schema: The JSON schema.
        model: The model that chooses, None for none.
        model_path: The file that an engine runs of it.
        projector: The file that turns pictures into what it reads.
        pages: Numbers of pages to read; all where None.
        overlay: Folder for pictures of the pages with what was found drawn in; None for none.
        threads: Threads of each worker.
    """

    schema: Mapping[str, Any]
    model: str | None = None
    model_path: str | None = None
    projector: str | None = None
    pages: tuple[int, ...] | None = None
    overlay: str | None = None
    threads: int = 1

    def key(self, digest: str) -> str:
        """Return what a row of a batch is known by: the document's content, the schema, the model and the pages."""
        parts = [_VERSION, digest, self.schema, self.model, self.pages]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def documents(names: Iterable[str]) -> list[Path]:
    """Find the documents that files, folders and patterns stand for, in the order given; folders with all below them.

    Raises:
        ReferenceNotFound: A name stands for nothing.
    """
    known = suffixes()
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            below = sorted(each for each in path.rglob("*") if each.suffix.lower() in known and each.is_file())
            if not below:
                raise ReferenceNotFound(
                    f"The folder {name} holds no documents.", remedy=f"Known: {', '.join(sorted(known))}."
                )
            found |= dict.fromkeys(below)
        elif path.is_file() or not glob.has_magic(name):
            if not path.is_file():
                raise ReferenceNotFound(f"There is no file {name}.")
            found[path] = None
        else:
            fitting = sorted(Path(each) for each in glob.glob(name, recursive=True) if Path(each).is_file())
            if not fitting:
                raise ReferenceNotFound(f"No file fits the pattern {name}.")
            found |= dict.fromkeys(fitting)
    return list(found)


def failure(failed: Mapping[str, Any]) -> SmidgenError:
    """Return what went wrong in a worker as the error that it was there."""
    kind = getattr(errors, str(failed["type"]), InvalidInput)
    error: SmidgenError = kind.__new__(kind)
    SmidgenError.__init__(error, failed["message"], remedy=failed["remedy"])
    return error


class Workers:
    """Processes that extract, one document each at a time. A context manager.

    A process that breaks down is replaced; the document that it broke down on is an error.

    Args:
        job: What is done with every document.
        count: How many processes.
        patience: Seconds that a page may take to be read.

    Attributes:
        peak: The largest memory that a worker held, in bytes.
    """

    def __init__(self, job: Job, count: int, *, patience: float = _PATIENCE) -> None:
        self._job, self._patience = job, patience
        self._idle: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)
        self._alive: set[Child] = set()
        self._count = count
        self.peak = 0

    def extract(self, path: Path, name: str | None = None, *, pictures: bool = False) -> dict[str, Any]:
        """Extract from one document, waiting for a process that is free.

        Args:
            path: The document.
            name: What it is called; its file's name where None.
            pictures: Whether its pages come along, as JPEG in base64.

        Returns:
            ``{"extraction": ...}``, or ``{"failed": ...}`` with what went wrong.
        """
        child = self._idle.get()
        try:
            child = child or self._started()
            job = self._job
            child.send(path=str(path), name=name or path.name, pages=job.pages, overlay=job.overlay, pictures=pictures)
            answer = self._received(child)
        except SmidgenError as error:
            self._end(child)
            child = None
            if not isinstance(error, EngineFailed):
                return {"failed": described(error)}
            broke = EngineFailed(
                f"{name or path.name} brought its reader down, or kept it busy for longer than a page may take.",
                remedy="The file is damaged or too large.",
            )
            return {"failed": described(broke) | {"detail": error.message}}
        except BaseException:
            self._end(child)
            child = None
            raise
        finally:
            self._idle.put(child)
        self.peak = max(self.peak, answer.pop("peak", 0))
        return answer

    def _started(self) -> Child:
        child = Child(_WORKER, "reading a document")
        self._alive.add(child)
        job = self._job
        model = {"model": job.model, "model_path": job.model_path, "projector": job.projector}
        child.send(schema=job.schema, threads=job.threads, **model)
        answer = child.receive()
        if "failed" in answer:
            self._end(child)
            raise failure(answer["failed"])
        return child

    def _received(self, child: Child) -> dict[str, Any]:
        """Wait for the answer; a process that gives no sign of life is ended, until it has only to choose."""
        choosing = False
        while True:
            timer = threading.Timer(self._patience, child.kill)
            timer.daemon = True
            if not choosing:
                timer.start()
            try:
                answer = child.receive()
            finally:
                timer.cancel()
            if "at" not in answer:
                return answer
            choosing = answer["at"] == CHOOSING

    def _end(self, child: Child | None) -> None:
        if child is not None:
            child.kill()
            self._alive.discard(child)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *ending: object) -> None:
        self.close()

    def kill(self) -> None:
        """End all processes at once; what waits for one that is at work gets an error. May be called again."""
        for child in tuple(self._alive):
            self._end(child)

    def close(self) -> None:
        """End the processes that are idle. May be called again."""
        for _ in range(self._count):
            with suppress(queue.Empty):
                child = self._idle.get_nowait()
                if child is not None:
                    child.close()
                    self._alive.discard(child)


@dataclass
class Journal:
    """A JSONL file with one row per document, to which rows are added as they come.

    Attributes:
        path: The file.
        rows: What it holds already, by key; rows with errors are tried again.
    """

    path: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path) -> Journal:
        """Open a journal; a row that was cut off, and those of errors, are taken out of it.

        Raises:
            InvalidInput: The file is something else, or cannot be written.
        """
        rows: dict[str, dict[str, Any]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for number, line in enumerate(lines):
            try:
                row = json.loads(line)
                key = row["key"]
            except (ValueError, KeyError, TypeError):
                if number == len(lines) - 1:
                    continue
                raise InvalidInput(
                    f"{path} holds something else than results of extraction.", remedy="Name another file."
                ) from None
            if "error" not in row:
                rows[key] = row
        atomic_write(path, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows.values()))
        return cls(path, rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row, so that a crash leaves it whole or not at all."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row, ensure_ascii=False)}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise writing_error(self.path, error) from error


def extract_all(
    paths: Sequence[Path], job: Job, *, jobs: int = 1, journal: Journal | None = None, progress: Progress = silent
) -> Iterator[dict[str, Any]]:
    """Extract from many documents, each row as soon as it is there.

    Args:
        paths: The documents.
        job: What is done with each.
        jobs: How many at once.
        journal: Where rows are kept; what it holds already is not done again.
        progress: Receives reports.

    Yields:
        For each document ``{"path", "key", ...}`` with an extraction as `Extraction.describe` writes it, or with
        ``error``.
    """
    done, failed = 0, 0

    def told(row: dict[str, Any]) -> dict[str, Any]:
        nonlocal done, failed
        done += 1
        failed += "error" in row
        note = f"{failed} failed" if failed else ""
        progress(Event("extracting", done, len(paths), "documents", note))
        return row

    waiting: list[tuple[Path, str]] = []
    for path in paths:
        key = job.key(_digest(path))
        known = journal.rows.get(key) if journal is not None else None
        if known is None:
            waiting.append((path, key))
        else:
            yield told(known | {"path": str(path)})
    if not waiting:
        return
    with Workers(job, min(jobs, len(waiting))) as workers, ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(_row, workers, path, key) for path, key in waiting]
        try:
            for each in as_completed(running):
                row = each.result()
                if journal is not None:
                    journal.add(row)
                yield told(row)
        finally:
            for each in running:
                each.cancel()


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except SmidgenError:
        return str(path)


def _row(workers: Workers, path: Path, key: str) -> dict[str, Any]:
    answer = workers.extract(path)
    head = {"path": str(path), "key": key}
    return {**head, **answer["extraction"]} if "extraction" in answer else {**head, "error": answer["failed"]}
