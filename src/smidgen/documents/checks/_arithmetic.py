"""What checks of sums and products are told alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arithmetic:
    """Parts that give a whole.

    Attributes:
        of: Paths of the parts; ``lines[].amount`` stands for a column.
        equals: Path of the whole.
        tolerance: Largest difference, in the whole's unit.
    """

    of: tuple[str, ...]
    equals: str
    tolerance: float = 0.05

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the parts and of the whole."""
        return (*self.of, self.equals)

    def differs(self, found: float, whole: float) -> bool:
        """Say whether what the parts give is another whole."""
        return abs(found - whole) > self.tolerance + 1e-9
