"""Tasks whose answer is one of a few labels: told by how likely each label is, never by reading a written answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.calibration import Calibration, contextual
from smidgen.tasks.passages import shortened
from smidgen.tasks.task import LanguageModel, Task, Working, require_text, said

MOST = 64
"""Labels that are told apart at most."""

SAYING_NOTHING = ("N/A", "[MASK]", "")
"""Texts without content, whose labels' likelihoods show what a model prefers whatever it reads (Zhao 2021)."""

_TOGETHER = 16
_RESERVED = 96  # tokens for instruction, template and label


@dataclass(frozen=True)
class LabelTask(Task):
    """A task that gives each text a label.

    Attributes:
        labels: What a text may be.
        even: Every label counts alike, however rare: decided for the highest mean F1 over the labels.
        calibration: How confidence was fitted to labelled texts.
    """

    labels: tuple[str, ...] = ()
    even: bool = False
    calibration: Calibration | None = None

    streams: ClassVar[bool] = False
    defines: ClassVar[tuple[str, ...]] = ("labels",)
    taught_by: ClassVar[tuple[str, ...]] = ("label",)

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not all(label.strip() for label in self.labels):
            raise InvalidInput(f"The labels {', '.join(map(repr, self.labels))} must differ and have words.")
        if self.labels and not 2 <= len(self.labels) <= MOST:
            raise InvalidInput(f"{len(self.labels)} labels cannot be told apart; expected 2 to {MOST}.")

    def instruction(self) -> str:
        """Return what the model is told before every text."""
        raise InvalidInput("This task has no labels.")

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked for a text."""
        return said(("system", self.instruction()), ("user", f"Text: {text}"))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Return the label of a text, its probability and those of the others."""
        yield from ()
        return self.many([text], model)[0]

    def many(self, texts: Sequence[str], model: LanguageModel) -> list[dict[str, Any]]:
        """Return the label of each text; how they all begin is read once for some of them together."""
        if not self.labels:
            raise InvalidInput("There are no labels to choose from.", remedy="Give them: --labels spam,ham.")
        found: list[dict[str, Any]] = []
        for begin in range(0, len(texts), _TOGETHER):
            part = [self.fitting(require_text(text), model) for text in texts[begin : begin + _TOGETHER]]
            found += [self.result(row) for row in self.probabilities(part, model)]
        return found

    def fitting(self, text: str, model: LanguageModel) -> str:
        """Return as much of a text as fits the model's context together with what is asked about it."""
        return shortened(text, model.context - _RESERVED, model)

    def likelihoods(self, texts: Sequence[str], model: LanguageModel) -> list[list[float]]:
        """Return ln p of each label behind each text, in nats."""
        return model.likelihoods([self.turns(text) for text in texts], self.labels, empty=self.turns(""))

    def probabilities(self, texts: Sequence[str], model: LanguageModel) -> list[list[float]]:
        """Return the probability of each label for each text that fits the context."""
        if self.calibration is not None:
            values = self.likelihoods(texts, model)
            found: list[list[float]] = self.calibration.probabilities(values, even=self.even).tolist()
            return found
        values = self.likelihoods([*SAYING_NOTHING, *texts], model)
        without: list[list[float]] = contextual(values[len(SAYING_NOTHING) :], values[: len(SAYING_NOTHING)]).tolist()
        return without

    def result(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """Return a result of the labels' probabilities."""
        best = max(range(len(self.labels)), key=probabilities.__getitem__)
        return {
            "label": self.labels[best],
            "confidence": probabilities[best],
            "scores": dict(zip(self.labels, probabilities, strict=True)),
            "calibrated": self.calibration is not None,
        }

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return the label and how sure it is."""
        return f"{result['label']} ({result['confidence']:.0%})"
