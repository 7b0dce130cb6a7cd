"""The record of one stored model: which contents it is made of, and what is known of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smidgen.errors import DamagedFile
from smidgen.models.files import digest_of_files
from smidgen.models.names import StoreName

FORMAT = 1

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Content:
    """One file of a model: the sha256 of its bytes, in hex, and their count."""

    sha256: str
    bytes: int

    @property
    def blob(self) -> str:
        """The name the bytes have in the store."""
        return f"sha256-{self.sha256}"


@dataclass(frozen=True)
class Manifest:
    """A stored model's record.

    Attributes:
        name: The model's name.
        files: File name to its contents.
        facts: What is known of the model; plain JSON values.
        added: When it was stored, in seconds since 1970.
    """

    name: StoreName
    files: Mapping[str, Content]
    facts: Mapping[str, Any]
    added: float

    @property
    def digest(self) -> str:
        """One sha256 over the files' names and contents."""
        return digest_of_files({name: content.sha256 for name, content in self.files.items()})

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(content.bytes for content in self.files.values())

    def text(self) -> str:
        """Return the record as it is written."""
        files = {name: {"sha256": content.sha256, "bytes": content.bytes} for name, content in self.files.items()}
        record = {
            "format": FORMAT,
            "name": str(self.name),
            "added": self.added,
            "files": files,
            "facts": dict(self.facts),
        }
        return json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path, name: StoreName) -> Manifest:
        """Read a record.

        Raises:
            FileNotFoundError: There is none.
            DamagedFile: It is not whole.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            files = {key: Content(str(entry["sha256"]), int(entry["bytes"])) for key, entry in record["files"].items()}
            manifest = cls(name, files, dict(record["facts"]), float(record["added"]))
            known = record["format"] == FORMAT
        except (ValueError, KeyError, TypeError, AttributeError):
            known = False
        if not known or not all(
            is_file_name(key) and _HEX.fullmatch(content.sha256) for key, content in manifest.files.items()
        ):
            raise DamagedFile(f"The stored model's record {path} is damaged.", remedy="Delete it and pull again.")
        return manifest


def is_file_name(name: str) -> bool:
    r"""Say whether a model's file may have this name: one that stays in its folder on every system.

    Example:
        >>> [is_file_name(name) for name in ("config.json", "../x", "a\\b", "")]
        [True, False, False, False]
    """
    return name not in ("", ".", "..") and not set(name) & set('/\\:\0<>|"?*') and len(name.encode()) <= 200
