"""What text of other domains costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.evaluate.findings import Point
from smidgen.evaluate.weaknesses._gap import Gap, GapWeakness, more_or_less

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.findings import Mean


@dataclass(frozen=True)
class OffDomain(GapWeakness):
    """Bits per byte of ten passages of other domains, less those of the text that the model is for.

    Such texts differ in how hard they are. With a source its own difference is taken off, and what is left is what
    shrinking took from domains that nobody calibrated for. The passages are `smidgen.evaluate.passages`: a story, a
    contract, a doctor's note, a recipe, news, a conversation, science, a program, German and a ledger.
    """

    name: ClassVar[str] = "off_domain"
    axis: ClassVar[str] = "domain"

    def observe(self, model: Examined, subjects: Subjects) -> Gap:
        """Measure the text and the passages."""
        from smidgen.evaluate.passages import PASSAGES

        near = model.bits_per_byte(subjects.text, subjects.windows)
        far = [model.bits_per_byte_of(passage) for passage in PASSAGES.values()]
        return Gap(tuple(near), tuple(far), (subjects.text.name, "other domains"))

    def said(self, seen: Gap, source: Gap | None, gap: Mean, weak: bool | None) -> str:
        """Say what other domains cost, and which most."""
        costs = self.points(seen, source)
        worst = " and ".join(str(point.at) for point in sorted(costs, key=lambda point: -point.value)[:2])
        if source is None:
            more = more_or_less(gap.value, 2)
            return f"Texts of other domains cost it {more} than {seen.names[0]}; hardest are {worst}."
        if weak:
            return (
                f"Shrinking cost it {gap.value:.3f} bits per byte more on other domains than on {seen.names[0]}; "
                f"{worst} lost most."
            )
        return f"Other domains lost no more than {seen.names[0]} did, within {max(gap.high, 0):.3f} bits per byte."

    def points(self, seen: Gap, source: Gap | None) -> Sequence[Point]:
        """Return what each domain costs, beside the source where there is one."""
        from smidgen.evaluate.passages import PASSAGES

        base = (0.0,) * len(seen.far) if source is None else source.far
        return [Point(name, one - two) for name, one, two in zip(PASSAGES, seen.far, base, strict=True)]

    def setting(self, seen: Gap) -> dict[str, Any]:
        """Return what was measured on."""
        return {"text": seen.names[0], "windows": len(seen.near)}
