"""The written plan: every decision that a measurement or the clock made, in the order it was made.

A plan only grows. Before anything is run that depends on a decision, the decision stands in the file; a run that
was killed reads it back and goes the same way, whatever the clock says then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smidgen.errors import DamagedFile, InvalidInput
from smidgen.models.files import atomic_write

FORMAT = 1


class Journal:
    """The plan of one run folder.

    Args:
        path: The file; read when it exists.
        identity: What the run was asked for. A file with another identity is refused.

    Raises:
        InvalidInput: The file belongs to another run.
        DamagedFile: The file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "plan.json"
        >>> Journal(path, {"fit": 8}).decide("steps", lambda: 100)
        100
        >>> Journal(path, {"fit": 8}).decide("steps", lambda: 999)
        100
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path, self.identity = path, json.loads(json.dumps(identity))
        self.entries: list[dict[str, Any]] = []
        self.started = time.monotonic()
        if path.is_file():
            self._read()
        self.before = float(self.entries[-1]["at"]) if self.entries else 0.0

    def _read(self) -> None:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            identity, self.entries = dict(data["identity"]), data["entries"]
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']!r}, and {FORMAT} is expected")
            # Only to see that every entry is whole.
            [(entry["name"], entry["value"], float(entry["at"])) for entry in self.entries]
        except (ValueError, LookupError, TypeError) as error:
            raise DamagedFile(f"{self.path} cannot be read: {error}.", remedy="Start anew with --fresh.") from error
        if identity != self.identity:
            names = sorted(
                name for name in identity.keys() | self.identity.keys() if identity.get(name) != self.identity.get(name)
            )
            raise InvalidInput(
                f"{self.path.parent.parent} holds another run: it differs in {', '.join(names)}.",
                remedy="Choose another --out, repeat the command it was started with, or start anew with --fresh.",
            )

    @property
    def elapsed(self) -> float:
        """Seconds worked on this plan, over all its runs."""
        return self.before + time.monotonic() - self.started

    def known(self, name: str) -> bool:
        """Whether this decision stands in the plan."""
        return any(entry["name"] == name for entry in self.entries)

    def decide(self, name: str, choose: Callable[[], Any], *, because: str = "") -> Any:
        """Return the decision of this name, making and writing it when it is not there yet.

        Args:
            name: What is decided; unique in the plan.
            choose: Makes the decision; must return plain data for JSON.
            because: The reason, for the reader of the plan.
        """
        for entry in self.entries:
            if entry["name"] == name:
                return entry["value"]
        value = json.loads(json.dumps(choose()))
        self.entries.append({"name": name, "value": value, "because": because, "at": round(self.elapsed, 3)})
        content = {"format": FORMAT, "identity": self.identity, "entries": self.entries}
        atomic_write(self.path, json.dumps(content, indent=1) + "\n")
        return value
