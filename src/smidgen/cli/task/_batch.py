"""What a task's command reads and writes: one text, or the rows of a file."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.cli.screen import Screen
from smidgen.data.records import SUFFIXES
from smidgen.errors import InvalidInput, ItemsFailed, ReferenceNotFound

if TYPE_CHECKING:
    from smidgen.tasks.batch import Done
    from smidgen.tasks.opened_model import OpenedModel
    from smidgen.tasks.task import Task

_LARGEST = 64 << 20


@dataclass(frozen=True)
class Files:
    """What is read and written.

    Attributes:
        source: A file of text, or of rows.
        out: Where results go; stdout where None.
        field: Name of the field of rows that holds the text.
        force: Replace what is there.
    """

    source: str | None = None
    out: str | None = None
    field: str = "text"
    force: bool = False

    @property
    def rows(self) -> bool:
        """Whether rows are read."""
        return self.source is not None and Path(self.source).suffix.lower() in SUFFIXES

    def checked(self) -> Files:
        """Refuse files that cannot be read or written, before any work begins.

        Raises:
            ReferenceNotFound: There is no such file.
            InvalidInput: What is to be written is there already, or would replace what is read.
        """
        from smidgen.cli._step import require_writable
        from smidgen.tasks.batch import check_suffix

        if self.source is not None and not Path(self.source).expanduser().is_file():
            raise ReferenceNotFound(
                f"There is no file {self.source!r}.", remedy="Name a text, a .csv or a .jsonl file."
            )
        if self.out is None:
            return self
        path = Path(self.out).expanduser()
        if self.rows:
            check_suffix(path)
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is no file.", remedy="Choose another --out.")
        if path.exists() and self.source is not None and path.samefile(Path(self.source).expanduser()):
            raise InvalidInput(f"{path} is what is read, and would be replaced.", remedy="Choose another --out.")
        if path.exists() and not self.force:
            raise InvalidInput(f"{path} is there already.", remedy="Choose another --out, or replace it with --force.")
        require_writable(path)
        return self


def read_text(path: str) -> str:
    """Read a file of text.

    Raises:
        InvalidInput: It is too large, or no text.
    """
    file = Path(path).expanduser()
    if file.stat().st_size > _LARGEST:
        raise InvalidInput(f"{file} is larger than {_LARGEST >> 20} MiB.", remedy="Give a part of it.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} is no text in UTF-8.", remedy="Convert it first.") from None


def run(task: Task, files: Files, model: OpenedModel, screen: Screen) -> None:
    """Do a task for the rows of a file.

    Raises:
        ItemsFailed: Some rows failed; each has its error.
    """
    from smidgen.data.records import read_records
    from smidgen.data.remembering import Notebook
    from smidgen.models.files import atomic_write
    from smidgen.models.store import default_root
    from smidgen.tasks import batch

    records = read_records(files.source or "")
    notes = default_root() / "tasks" / "results" / f"{_identity(model)}.jsonl"
    with screen.progress() as progress:
        done = batch.run(task, records, model, Notebook(notes), field=files.field, progress=progress)
    if files.out is None:
        sys.stdout.write(batch.as_lines(done))
    else:
        path = Path(files.out).expanduser()
        atomic_write(path, batch.as_table(done) if path.suffix.lower() == ".csv" else batch.as_lines(done))
    failed = [each for each in done if each.error]
    if files.out is not None:
        facts: dict[str, Any] = {"out": files.out, "rows": len(done), "failed": len(failed)}
        screen.result(facts, lambda: screen.text(f"{len(done):,} rows written to {files.out}."))
    if failed:
        raise _failed(failed, len(done))


def _failed(failed: list[Done], count: int) -> ItemsFailed:
    return ItemsFailed(
        f"{len(failed)} of {count} rows failed; the first: {failed[0].error}",
        remedy="Each has its error in the result.",
    )


def _identity(model: OpenedModel) -> str:
    """Name what does the task: the model's bytes and the versions of what runs them."""
    from importlib.metadata import version

    import smidgen

    sha256 = None if model.local is None else model.local.sha256
    facts = [smidgen.__version__, version("xllamacpp"), sha256, model.context]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
