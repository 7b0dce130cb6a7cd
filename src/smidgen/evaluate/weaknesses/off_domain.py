"""What text of other domains costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.findings import Finding, Point
from smidgen.evaluate.weaknesses._weakness import NOTICEABLE, Weakness
from smidgen.evaluate.weaknesses.overfitting import Gap

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects


@dataclass(frozen=True)
class OffDomain(Weakness[Gap]):
    """Bits per byte of ten passages of other domains, less those of the text that the model is for.

    Such texts differ in how hard they are. With a source its own difference is taken off, and what is left is what
    shrinking took from domains that nobody calibrated for. The passages are `smidgen.evaluate.passages`: a story, a
    contract, a doctor's note, a recipe, news, a conversation, science, a program, German and a ledger.
    """

    unit: ClassVar[str] = "bits per byte"

    def observe(self, model: Examined, subjects: Subjects) -> Gap:
        """Measure the text and the passages."""
        from smidgen.evaluate.passages import PASSAGES

        near = model.bits_per_byte(subjects.text, subjects.windows)
        far = [model.bits_per_byte_of(passage) for passage in PASSAGES.values()]
        return Gap(tuple(near), tuple(far), (subjects.text.name, "other domains"))

    def judge(self, seen: Gap, source: Gap | None) -> Finding:
        """Say what other domains cost, and which most."""
        from smidgen.evaluate.passages import PASSAGES

        gap = seen.beyond(source)
        base = (0.0,) * len(seen.far) if source is None else source.far
        each = {name: one - two for name, one, two in zip(PASSAGES, seen.far, base, strict=True)}
        worst = sorted(each, key=lambda name: -each[name])[:2]
        weak = None if source is None else gap.low > 0 and gap.value >= NOTICEABLE
        if source is None:
            more = f"{abs(gap.value):.2f} bits per byte {'more' if gap.value >= 0 else 'less'}"
            said = f"Texts of other domains cost it {more} than {seen.names[0]}; hardest are {' and '.join(worst)}."
        elif weak:
            said = (
                f"Shrinking cost it {gap.value:.3f} bits per byte more on other domains than on {seen.names[0]}; "
                f"{' and '.join(worst)} lost most."
            )
        else:
            said = f"Other domains lost no more than {seen.names[0]} did, within {max(gap.high, 0):.3f} bits per byte."
        return Finding(
            "off_domain",
            gap.value,
            self.unit,
            said,
            low=gap.low,
            high=gap.high,
            items=len(seen.near) + len(seen.far),
            weak=weak,
            axis="domain",
            points=tuple(Point(name, value) for name, value in each.items()),
            setting={"text": seen.names[0], "windows": len(seen.near)},
        )
