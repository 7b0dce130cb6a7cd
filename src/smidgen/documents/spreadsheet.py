"""Results as CSV: one row per document, and one per row of a table where a schema has tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Lay out rows of a batch as CSV.

    Columns are the file, the status of the whole, the single fields, and what went wrong. A field that is missing is
    an empty cell. Texts that a spreadsheet would take for a formula get an apostrophe before them.

    Args:
        rows: As `smidgen.documents.batch.extract_all` yields them.

    Example:
        >>> fields = {"total": {"value": 9.5, "status": "grounded"}}
        >>> as_csv([{"path": "a.pdf", "fields": fields}]).splitlines()
        ['file,total,doubtful,error', 'a.pdf,9.5,,']
    """
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(path for path in row.get("fields", {}) if "[" not in path)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["file", *columns, "doubtful", "error"])
    for row in rows:
        fields = row.get("fields", {})
        doubtful = [path for path, each in fields.items() if each["status"] not in ("grounded", "missing")]
        error = row.get("error", {}).get("message", "")
        cells = [fields[path]["value"] if path in fields else None for path in columns]
        writer.writerow([_safe(each) for each in (row["path"], *cells, "; ".join(doubtful), error)])
    return written.getvalue()


def _safe(value: Any) -> Any:
    """Keep a text from being run as a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return f"'{value}"
    return "" if value is None else value


def _is_number(text: str) -> bool:
    return text[1:].replace(" ", "").replace(".", "").replace(",", "").isdigit()
