"""The folder that keeps what a comparison measured, so that a stopped one goes on and a new one can be held to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smidgen.data.remembering import Notebook
from smidgen.models.files import atomic_write, make_folder

FOLDER = "comparisons"
"""Folder of the store that holds one folder for everything that was asked in the same way."""

_NOTES = "notes.jsonl"


class Kept:
    """What is kept of one comparison.

    Args:
        root: The model store's folder.
        asked: What the answers are known by; comparisons that differ in the rest share them.
        key: What the comparison is known by: everything that its figures depend on.
        fresh: Begin anew where the last one is whole; one that was stopped goes on.

    Attributes:
        notebook: Every answer and verdict.
        created: When it was begun, ISO 8601.
        scores: Folder of what was scored, shared with other comparisons unless everything is measured anew.
    """

    def __init__(self, root: Path, asked: str, key: str, *, fresh: bool) -> None:
        self._folder = make_folder(root / FOLDER / asked)
        self._result, self._earlier = (self._folder / f"{key}{end}.json" for end in ("", "-earlier"))
        self.notebook = Notebook(self._folder / _NOTES)
        begun = self.notebook.known.get("begun")
        result = _read(self._result)
        whole = begun is not None and result is not None and result.get("created") == begun[0]
        if begun is None or (fresh and whole):
            self._begin_anew(fresh)
            begun = self.notebook.known["begun"]
        self.created: str = begun[0]
        self.scores = (self._folder if begun[1] else root) / "scores"

    def _begin_anew(self, fresh: bool) -> None:
        if self._result.is_file():
            self._result.replace(self._earlier)
        (self._folder / _NOTES).unlink(missing_ok=True)
        shutil.rmtree(self._folder / "scores", ignore_errors=True)
        self.notebook = Notebook(self._folder / _NOTES)
        self.notebook.keep("begun", [datetime.now(UTC).isoformat(), fresh])

    @property
    def earlier(self) -> dict[str, Any] | None:
        """What the comparison before this one found; None where there was none."""
        return _read(self._earlier)

    def finish(self, plain: Mapping[str, Any]) -> None:
        """Keep the whole result."""
        atomic_write(self._result, json.dumps(plain, default=str))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def against_earlier(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Say how a comparison's figures moved since the same one was measured before.

    Figures of quality should be the same to the last bit; speeds move with the machine.

    Args:
        earlier: The plain data of the earlier one.
        now: The plain data of this one, after JSON.

    Returns:
        ``earlier`` (when), ``identical``, ``moved`` (names of the figures of quality that are not the same) and
        ``speeds`` (for each model its median speed now over that of before; None where one is missing).
    """
    moved: list[str] = []
    speeds: list[float | None] = []
    for old, new in zip(earlier["models"], now["models"], strict=True):
        name = new["about"]["name"]
        texts = [[each and each["text"] for each in side["answers"]] for side in (old, new)]
        moved += [f"{name}: answers"] if texts[0] != texts[1] else []
        moved += [f"{name}: {part}" for part in ("texts", "tasks") if old[part] != new[part]]
        both = old["writes"] and new["writes"]
        speeds.append(new["writes"]["median"] / old["writes"]["median"] if both else None)
    if (earlier["opinion"] or {}).get("shares") != (now["opinion"] or {}).get("shares"):
        moved.append("the judge’s opinion")
    return {"earlier": earlier["created"], "identical": not moved, "moved": moved, "speeds": speeds}
