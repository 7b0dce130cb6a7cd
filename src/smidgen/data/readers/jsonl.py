"""JSON lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.data.readers._shapes import rows_from
from smidgen.data.readers._text import read_text
from smidgen.data.rows import Row
from smidgen.errors import DamagedFile, InvalidInput


@dataclass(frozen=True)
class Jsonl:
    """JSON lines: one object per line; blank lines between them are allowed."""

    def read(self, path: Path) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Read the rows of one file, and warnings."""
        return rows_from(_records(path), path.name)

    def records(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read every row's place and its fields as they stand."""
        return _records(path)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path.name}, line {number}"
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "too deep"
            raise DamagedFile(
                f"{path}, line {number} is not JSON: {reason}.",
                remedy="Write one complete JSON object per line; for one array of objects name the file .json.",
            ) from None
        if not isinstance(value, dict):
            raise InvalidInput(f"{place} holds a {type(value).__name__}.", remedy="Write one JSON object per line.")
        yield place, value
