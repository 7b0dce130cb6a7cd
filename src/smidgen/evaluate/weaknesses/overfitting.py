"""How much better a model knows its training text than other text of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import Unsupported
from smidgen.evaluate.findings import Finding, Mean, mean_difference
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


@dataclass(frozen=True)
class Overfitting(Weakness[Gap]):
    """Bits per byte of held-out text less those of the training text, both of one kind.

    One text may simply be harder than the other. With a source that was not trained on it, the source's own gap is
    taken off, window by window, and what is left is what training learnt by heart; the interval is Welch's over
    windows. Without a source the figure cannot be told from the texts' difference, and is not called a weakness.
    """

    unit: ClassVar[str] = "bits per byte"

    def observe(self, model: Examined, subjects: Subjects) -> Gap:
        """Measure both texts."""
        if subjects.trained_on is None:
            raise Unsupported("Nothing says which text it was trained on; name it with --trained-on.")
        near = model.bits_per_byte(subjects.trained_on, subjects.windows)
        far = model.bits_per_byte(subjects.text, subjects.windows)
        return Gap(tuple(near), tuple(far), (subjects.trained_on.name, subjects.text.name))

    def judge(self, seen: Gap, source: Gap | None) -> Finding:
        """Say how much was learnt by heart."""
        gap = seen.beyond(source)
        more = f"{abs(gap.value):.3f} bits per byte {'more' if gap.value >= 0 else 'less'}"
        if source is None:
            said = (
                f"Text it has not seen costs {more} than {seen.names[0]}; whether that text is simply harder, only a "
                "source to compare with can say (--against)."
            )
        elif gap.low > 0 and gap.value >= NOTICEABLE:
            said = f"It learnt its training text by heart: unseen text costs {more}, its source's own difference aside."
        else:
            said = (
                f"It does as well on unseen text as on its training text, within {max(gap.high, 0):.3f} bits per byte."
            )
        return Finding(
            "overfitting",
            gap.value,
            self.unit,
            said,
            low=gap.low,
            high=gap.high,
            items=len(seen.near) + len(seen.far),
            weak=None if source is None else gap.low > 0 and gap.value >= NOTICEABLE,
            setting={"trained_on": seen.names[0], "held_out": seen.names[1], "windows": len(seen.far)},
        )
