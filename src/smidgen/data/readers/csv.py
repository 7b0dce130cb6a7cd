"""Comma-separated values with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from smidgen.data.readers._shapes import rows_from
from smidgen.data.readers._text import read_text
from smidgen.data.rows import Row
from smidgen.errors import DamagedFile

_LONGEST_FIELD = 2**31 - 1


@dataclass(frozen=True)
class Csv:
    """Values separated by commas, semicolons or tabs (the header shows which), with the fields' names on top."""

    def read(self, path: Path) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Read the rows of one file, and warnings."""
        return rows_from(_records(path), path.name)

    def records(self, path: Path) -> Iterator[tuple[str, dict[str, str]]]:
        """Read every row's place and its fields as they stand."""
        return _records(path)


def _records(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    text = read_text(path)
    header = text.lstrip("\n").partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for values in reader:
            if not values:
                continue
            if names is None:
                names = values
            elif len(values) != len(names):
                raise DamagedFile(
                    f"{path}, line {reader.line_num} has {len(values)} values; the header has {len(names)}.",
                    remedy="Put values that contain the separator or a line break in double quotes.",
                )
            else:
                yield f"{path.name}, line {reader.line_num}", dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise DamagedFile(
            f"{path}, line {reader.line_num} is not readable as CSV: {error}.",
            remedy="Double the quotes inside quoted values, and close every quote.",
        ) from None
