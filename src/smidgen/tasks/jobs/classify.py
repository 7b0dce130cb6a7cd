"""Which of your labels a text has."""

from __future__ import annotations

from dataclasses import dataclass

from smidgen.tasks.labels import LabelTask


@dataclass(frozen=True)
class Classify(LabelTask):
    """Tell which of your labels a text has, by how likely the model finds each: softmax(ln p(label) − ln p₀).

    p₀ is what the model prefers before it reads anything. A model that was trained on your rows (``--train``) is far
    better than one that is only asked; its confidence is fitted to rows it has not seen.

    Attributes:
        labels: What a text may be; none are needed where a specialised model brings them.
        even: Every label counts alike, however rare: decided for the highest mean F1 over the labels.
        about: What the labels are about, in a few words, such as "topic" or "kind of message".

    Example:
        >>> Classify(labels=("spam", "ham"), about="kind of message").instruction()
        'Name the kind of message of the text in one word: spam or ham.'
    """

    about: str = "label"

    def instruction(self) -> str:
        """Return what the model is told before every text."""
        return f"Name the {self.about} of the text in one word: {choice_of(self.labels)}."


def choice_of(labels: tuple[str, ...]) -> str:
    """Join labels as a choice.

    Example:
        >>> choice_of(("a", "b", "c"))
        'a, b or c'
    """
    return " or ".join([", ".join(labels[:-1]), labels[-1]] if len(labels) > 1 else list(labels))
