"""Parts that must add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.documents.checks._arithmetic import Arithmetic

if TYPE_CHECKING:
    from smidgen.documents.checks import Values


@dataclass(frozen=True)
class Sum(Arithmetic):
    """The parts add up to the whole, within a tolerance: ``|Σ of - equals| <= tolerance``.

    Where a part or the whole is missing, nothing is said.

    Attributes:
        of: Paths of the parts; ``lines[].amount`` stands for a column.
        equals: Path of the whole.
        tolerance: Largest difference, in the whole's unit.

    Example:
        >>> Sum(("net", "tax"), "total").fault({"net": 10.0, "tax": 2.0, "total": 13.0})
        'net + tax is 12.00, and total is 13.00.'
    """

    def fault(self, values: Values) -> str | None:
        """Say where the parts do not add up."""
        whole = values.get(self.equals)
        parts: list[Any] = []
        for path in self.of:
            value = values.get(path)
            parts += value if isinstance(value, list) else [value]
        if not parts or any(not isinstance(each, (int, float)) for each in (*parts, whole)):
            return None
        total = float(sum(parts))
        if not self.differs(total, float(whole)):  # type: ignore[arg-type]
            return None
        return f"{' + '.join(self.of)} is {total:.2f}, and {self.equals} is {float(whole):.2f}."  # type: ignore[arg-type]
