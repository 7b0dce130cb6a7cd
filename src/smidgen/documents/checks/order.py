"""Values that must follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smidgen.documents.checks import Values


@dataclass(frozen=True)
class Order:
    """Each value is at least the one before it; dates by their day. Those that are missing are left out.

    Attributes:
        of: Paths of the values, the least first.

    Example:
        >>> Order(("date", "due_date")).fault({"date": "2024-02-01", "due_date": "2024-01-01"})
        'due_date (2024-01-01) comes before date (2024-02-01).'
    """

    of: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the values."""
        return self.of

    def fault(self, values: Values) -> str | None:
        """Say which value comes too early."""
        there = [(path, values[path]) for path in self.of if values.get(path) is not None]
        for (before, low), (path, high) in pairwise(there):
            if type(low) is type(high) and low > high:
                return f"{path} ({high}) comes before {before} ({low})."
        return None
