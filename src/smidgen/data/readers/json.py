"""JSON files that hold one array of objects."""

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
class Json:
    """One JSON array of objects."""

    def read(self, path: Path) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Read the rows of one file, and warnings."""
        return rows_from(self.records(path), path.name)

    def records(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read every row's place and its fields as they stand."""
        remedy = "Write one array of objects; for one object per line name the file .jsonl."
        try:
            value = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise DamagedFile(
                f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.", remedy=remedy
            ) from None
        except RecursionError:
            raise DamagedFile(f"{path} is nested too deeply.", remedy=remedy) from None
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise InvalidInput(f"{path} is not an array of objects.", remedy=remedy)
        return ((f"{path.name}, item {number}", item) for number, item in enumerate(value, 1))
