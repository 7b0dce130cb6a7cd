"""Whether a text is positive or negative."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.tasks.jobs.classify import choice_of
from smidgen.tasks.labels import LabelTask


@dataclass(frozen=True)
class Sentiment(LabelTask):
    """Tell whether a text is positive or negative, by how likely the model finds each word.

    Attributes:
        labels: The words for it; add "neutral" where texts may be neither.
        even: Every label counts alike, however rare: decided for the highest mean F1 over the labels.

    Example:
        >>> Sentiment().instruction()
        'Is the sentiment of the text positive or negative? Answer with one word.'
    """

    labels: tuple[str, ...] = ("positive", "negative")

    def instruction(self) -> str:
        """Return what the model is told before every text."""
        return f"Is the sentiment of the text {choice_of(self.labels)}? Answer with one word."
