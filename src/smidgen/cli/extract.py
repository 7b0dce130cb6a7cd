"""``smidgen extract``: scans, photos and PDFs to validated JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from smidgen.cli.options import Settings
from smidgen.cli.screen import Screen, print_json
from smidgen.errors import InvalidInput, ItemsFailed

_SHOWN = 12


def command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="PDF, PNG, JPEG, TIFF, WebP, video; folders; patterns.")
    ],
    settings: Settings,
    schema: Annotated[
        str | None,
        typer.Option("--schema", metavar="FILE", help="JSON schema, or pydantic:module.Class of this folder."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="A schema that comes along: invoice, receipt, id, form, chart."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="Model that chooses in doubt, or sees; none asks none.")
    ] = "smollm2:135m",
    pages: Annotated[
        str | None, typer.Option("--pages", metavar="LIST", help="Pages to read: 1-3,7.", show_default="all")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="Documents at once.", show_default="one per thread")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="JSONL to write; the same command resumes it.")
    ] = None,
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="CSV to write.")] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object per document and line.")] = False,
    overlay: Annotated[
        str | None, typer.Option("--overlay", metavar="FOLDER", help="Draw what was found on the pages: PNG and HTML.")
    ] = None,
) -> None:
    """Extract fields from documents: each with its value, its place on the page, a status and a confidence.

    What is not on the page is null and "missing", never invented. A bad file gives an error row and the batch goes
    on; the exit code is then 4.
    """
    from smidgen.documents.batch import Journal, documents, extract_all
    from smidgen.models.files import atomic_write

    screen = Screen(settings.json or jsonl, settings.quiet)
    if jobs is not None and jobs < 1:
        raise InvalidInput(f"--jobs {jobs} is not possible.", remedy="Give at least 1.")
    paths = documents(files)
    count = min(jobs or settings.threads, len(paths))
    job = _job(schema, preset, model, pages, overlay, max(1, settings.threads // count), settings, screen)
    journal = Journal.at(Path(out)) if out else None
    rows: list[dict[str, Any]] = []
    with screen.progress() as progress:
        for row in extract_all(paths, job, jobs=count, journal=journal, progress=progress):
            rows.append(_told(row, len(paths), jsonl=jsonl, kept=journal is not None and not settings.json and not csv))
    if csv:
        order = {str(path): number for number, path in enumerate(paths)}
        atomic_write(Path(csv), _as_csv(sorted(rows, key=lambda row: order[row["path"]])))
    _end(screen, rows, settings.json)


def _job(
    schema: str | None,
    preset: str | None,
    model: str,
    pages: str | None,
    overlay: str | None,
    threads: int,
    settings: Settings,
    screen: Screen,
) -> Any:
    from smidgen.documents.batch import Job
    from smidgen.documents.ocr import require_installed
    from smidgen.documents.schema import load_schema
    from smidgen.documents.schema import preset as known
    from smidgen.documents.schema_reading import read_schema
    from smidgen.export import runnable
    from smidgen.inference.setup import Setup

    require_installed()
    if (schema is None) == (preset is None):
        raise InvalidInput("Say what to look for.", remedy="Give either --schema FILE or --preset invoice.")
    wanted = load_schema(schema) if schema is not None else known(str(preset))
    read_schema(wanted)
    path = projector = None
    if model.lower() != "none":
        with screen.progress() as progress:
            local = runnable.find(model, offline=settings.offline, progress=progress)
            path = str(runnable.path_of(local, progress=progress))
        projector = Setup.of(local).projector
    named = None if path is None else model
    chosen = None if pages is None else page_numbers(pages)
    return Job(wanted, named, path, None if projector is None else str(projector), chosen, overlay, threads)


def page_numbers(text: str) -> tuple[int, ...]:
    """Read a list of pages as a person writes it.

    Raises:
        InvalidInput: It is no list of pages.

    Example:
        >>> page_numbers("1-3,7")
        (1, 2, 3, 7)
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.strip().isdigit()):
            raise InvalidInput(f"--pages {text!r} is no list of pages.", remedy="Write it as 1-3,7.")
        begin, end = int(first), int(last) if dash else int(first)
        if not 1 <= begin <= end or end - begin >= 10_000:
            raise InvalidInput(f"--pages {text!r} is no list of pages.", remedy="Write it as 1-3,7.")
        found += range(begin, end + 1)
    return tuple(dict.fromkeys(found))


def _told(row: dict[str, Any], total: int, *, jsonl: bool, kept: bool) -> dict[str, Any]:
    """Print a row at once where that was asked for; of a long batch that is kept in a file only the sum stays here."""
    if jsonl:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    if (jsonl or kept) and total > _SHOWN:
        return {"path": row["path"], **({"error": row["error"]} if "error" in row else {})}
    return row


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    from smidgen.documents.spreadsheet import as_csv

    return as_csv(rows)


def _end(screen: Screen, rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    failed = [row for row in rows if "error" in row]
    if as_json and len(rows) == 1 and not failed:
        print_json(rows[0])
    elif as_json and (len(rows) > 1):
        print_json({"documents": list(rows), "failed": len(failed)})
    elif not screen.json:
        _show(screen, rows)
    if len(rows) == 1 and failed:
        from smidgen.documents.batch import failure

        raise failure(failed[0]["error"])
    if failed:
        error = ItemsFailed(
            f"{len(failed)} of {len(rows)} documents failed.", remedy="Each has its error row; the rest is done."
        )
        if screen.json:
            raise typer.Exit(error.exit_code)
        raise error


def _show(screen: Screen, rows: Sequence[Mapping[str, Any]]) -> None:
    shown: Iterable[Mapping[str, Any]] = [row for row in rows if "fields" in row][:_SHOWN]
    for row in shown:
        columns = ("field", "value", "page", "status", "sure")
        cells = [
            (
                path,
                "-" if each["value"] is None else each["value"],
                each["page"] or "-",
                each["status"].replace("_", " "),
                "-" if each["value"] is None else f"{each['confidence']:.0%}",
            )
            for path, each in row["fields"].items()
            if "[" not in path
        ]
        screen.table(columns, cells, title=row["path"])
        for name, rows_found in row["data"].items():
            if isinstance(rows_found, list) and rows_found:
                screen.table(
                    tuple(rows_found[0]),
                    [tuple("" if cell is None else cell for cell in each.values()) for each in rows_found],
                    title=name,
                )
        for fault in row["faults"]:
            screen.warn(f"{row['path']}: {fault}")
    if len(rows) > 1:
        for row in rows:
            if "error" in row:
                screen.warn(f"{row['path']}: {row['error']['message']}")
        screen.text(f"{len(rows)} documents, {sum('error' in row for row in rows)} failed.")
