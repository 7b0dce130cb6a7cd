"""A cleaned or written corpus in files: its rows as JSONL, and beside them the datasheet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

from smidgen.data.curation import Datasheet
from smidgen.data.rows import Corpus
from smidgen.models.files import atomic_write, make_folder


def sheet_beside(path: Path) -> Path:
    """Return where the datasheet of a file of rows lies.

    Example:
        >>> sheet_beside(Path("clean.jsonl")).name
        'clean.datasheet.md'
    """
    return path.with_name(f"{path.stem}.datasheet.md")


def keep(corpus: Corpus, sheet: Datasheet, path: Path) -> Path:
    """Write a corpus, one row per line, with its datasheet; `smidgen.data.loading.load` reads it back.

    Args:
        corpus: The rows.
        sheet: What it says about them.
        path: The file, ending in ``.jsonl``; its folder is made where missing.

    Returns:
        Where the datasheet is. It is written first, so that no rows are without one.

    Raises:
        InvalidInput: The place may not be written to.
        OutOfResources: The disk is full.
    """

    def write(file: BinaryIO) -> None:
        for row in corpus.rows:
            # What UTF-8 cannot hold becomes the escape that JSON has for it.
            file.write(json.dumps(row.to_dict(), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    make_folder(path.absolute().parent)
    atomic_write(sheet_beside(path), sheet.to_markdown().encode("utf-8", "backslashreplace"))
    atomic_write(path, write)
    return sheet_beside(path)
