"""Apache Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.data.readers._shapes import rows_from
from smidgen.data.readers._text import read_bytes
from smidgen.data.rows import Row
from smidgen.errors import DamagedFile, MissingExtra


@dataclass(frozen=True)
class Parquet:
    """Apache Parquet (needs the extra ``data``)."""

    def read(self, path: Path) -> tuple[tuple[Row, ...], tuple[str, ...]]:
        """Read the rows of one file, and warnings."""
        return rows_from(_records(path), path.name)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra.of("reading .parquet files", "pyarrow", "data") from None
    source = pyarrow.BufferReader(read_bytes(path))
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(source).iter_batches():
            for record in batch.to_pylist():
                number += 1
                yield f"{path.name}, row {number}", record
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise DamagedFile(
            f"{path} is not a complete Parquet file: {reason}.", remedy="Write or download it again."
        ) from None
