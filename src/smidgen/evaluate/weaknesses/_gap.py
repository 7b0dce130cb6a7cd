"""What weaknesses share that show in how much harder one text is than another."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.evaluate.findings import Finding, Mean, Point, mean_difference
from smidgen.evaluate.weaknesses._weakness import NOTICEABLE, Weakness

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects


@dataclass(frozen=True)
class Gap:
    """Bits per byte of each window of two texts.

    Attributes:
        near: Of the text that should be easier: the training text, or that of the model's domain.
        far: Of the other.
        names: What both are called.
    """

    near: tuple[float, ...]
    far: tuple[float, ...]
    names: tuple[str, str]

    def beyond(self, source: Gap | None) -> Mean:
        """Return how much more the far text costs than the near one, less the same of the source where there is one."""
        if source is None or len(source.near) != len(self.near) or len(source.far) != len(self.far):
            return mean_difference(self.near, self.far)
        sides = zip((self.near, self.far), (source.near, source.far), strict=True)
        near, far = ([one - two for one, two in zip(own, its, strict=True)] for own, its in sides)
        return mean_difference(near, far)


class GapWeakness(Weakness[Gap]):
    """How many bits per byte one text costs more than another, the source's own difference taken off.

    Without a source the figure cannot be told from the texts' difference, and is not called a weakness.

    Attributes:
        name: What it is called.
        axis: What its curve runs over; empty where it has none.
    """

    unit: ClassVar[str] = "bits per byte"
    name: ClassVar[str]
    axis: ClassVar[str] = ""

    @abc.abstractmethod
    def observe(self, model: Examined, subjects: Subjects) -> Gap:
        """Measure both texts."""

    @abc.abstractmethod
    def said(self, seen: Gap, source: Gap | None, gap: Mean, weak: bool | None) -> str:
        """Say in a sentence what was found.

        Args:
            seen: What was seen of the model.
            source: What was seen of the model it was made from.
            gap: The difference, the source's own taken off.
            weak: Whether it is one that counts; None where nothing tells.
        """

    def points(self, seen: Gap, source: Gap | None) -> Sequence[Point]:
        """Return the curve behind the figure."""
        return ()

    def setting(self, seen: Gap) -> dict[str, Any]:
        """Return what was measured on."""
        return {"trained_on": seen.names[0], "held_out": seen.names[1], "windows": len(seen.far)}

    def judge(self, seen: Gap, source: Gap | None) -> Finding:
        """Say what was seen."""
        gap = seen.beyond(source)
        weak = None if source is None else gap.low > 0 and gap.value >= NOTICEABLE
        return Finding(
            self.name,
            gap.value,
            self.unit,
            self.said(seen, source, gap, weak),
            low=gap.low,
            high=gap.high,
            items=len(seen.near) + len(seen.far),
            weak=weak,
            axis=self.axis,
            points=tuple(self.points(seen, source)),
            setting=self.setting(seen),
        )


def more_or_less(value: float, digits: int) -> str:
    """Say how much more or less a text costs.

    Example:
        >>> more_or_less(0.25, 2), more_or_less(-0.0306, 3)
        ('0.25 bits per byte more', '0.031 bits per byte less')
    """
    return f"{abs(value):.{digits}f} bits per byte {'more' if value >= 0 else 'less'}"
