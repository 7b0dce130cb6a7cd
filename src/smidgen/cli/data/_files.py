"""What the commands for data share: the files they write, and how they show what went."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smidgen.cli._step import require_writable
from smidgen.cli.screen import Screen
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from smidgen.data.curation import Datasheet
    from smidgen.data.rows import Corpus

Out = Annotated[str, typer.Option("--out", metavar="FILE", help="File to write (.jsonl), the datasheet beside it.")]
Language = Annotated[
    list[str] | None,
    typer.Option("--language", metavar="CODE", help="Keep only texts in it, such as en; may be repeated."),
]
HeldOut = Annotated[
    str | None,
    typer.Option("--held-out", metavar="DATA", help="Text to be measured on: nothing that shares passages stays."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]


def check_file(out: str, data: str, *, force: bool) -> Path:
    """Refuse a file that cannot be written or would destroy something, before any work begins.

    Args:
        out: The file as it was written.
        data: What is read; never replaced.
        force: Whether files that are there may be replaced.

    Raises:
        InvalidInput: It cannot be written, is there already, or is what is read.
    """
    from smidgen.data.keeping import sheet_beside

    path = Path(out).expanduser()
    if path.suffix.lower() != ".jsonl" or path.is_dir():
        raise InvalidInput(f"--out {out!r} is not the name of a .jsonl file.", remedy="Write it like --out clean.jsonl")
    read = Path(data).expanduser()
    if read.exists() and path.exists() and read.samefile(path):
        raise InvalidInput(f"{path} is what is read, and would be replaced.", remedy="Choose another --out.")
    for place in (path, sheet_beside(path)):
        if place.exists() and not force:
            raise InvalidInput(f"{place} is there already.", remedy="Choose another --out, or replace it with --force.")
    require_writable(path)
    return path


def finish(
    screen: Screen, corpus: Corpus, sheet: Datasheet, path: Path, more: dict[str, Any], rows: list[tuple[str, str]]
) -> None:
    """Write the files and show what they hold.

    Args:
        screen: Where to.
        corpus: What is kept.
        sheet: What of the rest went, and why.
        path: The file.
        more: Further facts for JSON.
        rows: Further lines for a person, above what went.
    """
    from smidgen.data.keeping import keep

    beside = keep(corpus, sheet, path)
    facts = {"out": str(path), "datasheet": str(beside), "rows": len(corpus.rows), "characters": corpus.characters}
    removed = {reason: count for reason, count in asdict(sheet.removed).items() if count}
    told = set(sheet.removed.sentences())
    data = {
        **facts,
        **more,
        "sheet": sheet.to_dict(),
        "warnings": [each for each in corpus.warnings if each not in told],
    }

    def show() -> None:
        for warning in data["warnings"]:
            screen.warn(warning)
        went = [(f"{reason} went", f"{count:,}  ({sheet.examples[reason]})") for reason, count in removed.items()]
        screen.table((path.name, ""), [*rows, *went, ("written to", str(path)), ("datasheet", str(beside))])

    screen.result(data, show)
