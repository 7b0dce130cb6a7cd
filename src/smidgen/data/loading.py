"""Any reference to data becomes a corpus: a file, a folder, a pattern of files or a data set of the hub."""

from __future__ import annotations

import difflib
import glob
from collections import Counter
from pathlib import Path
from typing import Protocol, cast

from smidgen import registry
from smidgen.data.curation import curate
from smidgen.data.hf import PREFIX, load_hub
from smidgen.data.readers._text import EmptyFile
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported

READERS = "smidgen.data.readers"


class Reader(Protocol):
    """Reads one file format; the file's suffix is the reader's name."""

    def read(self, path: Path) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Read a file's rows, and warnings."""


def load(spec: str | Path, *, offline: bool = False, deduplicate: bool = False) -> Corpus:
    """Load data.

    Args:
        spec: A file (.txt .md .jsonl .json .csv .parquet), a folder of such files, a pattern (``notes/*.md``), or
            a data set of the hub (``hf:org/name[:configuration][:split]``).
        offline: Never use the network.
        deduplicate: Remove duplicates and rows that say nothing (`smidgen.data.curation.curate`).

    Returns:
        The corpus; what was left out stands in its warnings.

    Raises:
        ReferenceNotFound: There is no such file, folder or data set; the message names the nearest match.
        InvalidInput: A file is empty, not UTF-8, or its rows have no known shape.
        DamagedFile: A file is not what its suffix promises.
        Unsupported: The suffix is unknown.
    """
    name = str(spec)
    if isinstance(spec, str) and name.startswith(PREFIX):
        corpus = load_hub(name, offline=offline)
    else:
        path = Path(spec).expanduser()
        if path.is_dir():
            corpus = _many(path.resolve().name, [file for file in sorted(path.rglob("*")) if _visible(file, path)])
        elif path.exists():
            rows, warnings = _reader(path).read(path)
            corpus = Corpus(path.name, rows, warnings=warnings)
        elif glob.has_magic(name):
            found = sorted(Path(file) for file in glob.glob(str(path), recursive=True))
            corpus = _many(name, [file for file in found if file.is_file()])
        else:
            raise _missing(path)
    return curate(corpus)[0] if deduplicate else corpus


def _suffixes() -> list[str]:
    return [f".{name}" for name in registry.names(READERS)]


def _reader(path: Path) -> Reader:
    suffix = path.suffix.lower()
    if suffix not in _suffixes():
        kind = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise Unsupported(
            f"{path} has {kind}, which tells nothing about how to read it.",
            remedy=f"Convert or rename it to one of: {' '.join(_suffixes())}.",
        )
    return cast(Reader, registry.find(READERS, suffix.removeprefix("."))())


def _visible(file: Path, folder: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _many(name: str, files: list[Path]) -> Corpus:
    """Read every file of a known suffix; what is left out becomes a warning, what is damaged an error."""
    readable = [file for file in files if file.suffix.lower() in _suffixes()]
    others = Counter(file.suffix or "no suffix" for file in files if file not in set(readable))
    listing = ", ".join(f"{count} of {suffix}" for suffix, count in sorted(others.items()))
    rows: list[Row] = []
    warnings: list[str] = [f"Files of other kinds were left out: {listing}."] if listing else []
    for file in readable:
        try:
            read, noted = _reader(file).read(file)
        except EmptyFile as error:
            warnings.append(f"{error.message.removesuffix('.')} and was left out.")
            continue
        rows += read
        warnings += noted
    if not rows:
        found = f"{len(files):,} files" + (f": {listing}" if listing else "") if files else "no files"
        raise InvalidInput(
            f"{name} has nothing to read (found {found}).",
            remedy=f"Put files with content there: {' '.join(_suffixes())}.",
        )
    return Corpus(name, tuple(rows), warnings=tuple(warnings))


def _missing(path: Path) -> ReferenceNotFound:
    siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    guess = f"Did you mean {str(path.parent / close[0])!r}? " if close else ""
    where = "" if path.parent.is_dir() else f" (nor a folder {str(path.parent)!r})"
    return ReferenceNotFound(
        f"There is no file {str(path)!r}{where}.",
        remedy=f"{guess}Name a file, a folder, a pattern, or hf:org/name for a data set of the hub.",
    )
