"""How much better a model knows its training text than other text of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import Unsupported
from smidgen.evaluate.weaknesses._gap import Gap, GapWeakness, more_or_less

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.findings import Mean


@dataclass(frozen=True)
class Overfitting(GapWeakness):
    """Bits per byte of held-out text less those of the training text, both of one kind.

    One text may simply be harder than the other. With a source that was not trained on it, the source's own gap is
    taken off, window by window, and what is left is what training learnt by heart; the interval is Welch's over
    windows. Without a source the figure cannot be told from the texts' difference, and is not called a weakness.
    """

    name: ClassVar[str] = "overfitting"

    def observe(self, model: Examined, subjects: Subjects) -> Gap:
        """Measure both texts."""
        if subjects.trained_on is None:
            raise Unsupported("Nothing says which text it was trained on; name it with --trained-on.")
        near = model.bits_per_byte(subjects.trained_on, subjects.windows)
        far = model.bits_per_byte(subjects.text, subjects.windows)
        return Gap(tuple(near), tuple(far), (subjects.trained_on.name, subjects.text.name))

    def said(self, seen: Gap, source: Gap | None, gap: Mean, weak: bool | None) -> str:
        """Say how much was learnt by heart."""
        more = more_or_less(gap.value, 3)
        if source is None:
            return (
                f"Text it has not seen costs {more} than {seen.names[0]}; whether that text is simply harder, only a "
                "source to compare with can say (--against)."
            )
        if weak:
            return f"It learnt its training text by heart: unseen text costs {more}, its source's own difference aside."
        return f"It does as well on unseen text as on its training text, within {max(gap.high, 0):.3f} bits per byte."
