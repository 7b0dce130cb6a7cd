"""Whether a text keeps to a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.jobs.classify import choice_of
from smidgen.tasks.labels import LabelTask
from smidgen.tasks.passages import within_words
from smidgen.tasks.task import LanguageModel, Manner, Working, said

_WORDS = 40


@dataclass(frozen=True)
class Moderate(LabelTask):
    """Tell whether a text breaks your policy, in which category, how surely, and in a sentence why.

    The score is 1 − p(acceptable) over the likelihoods of the categories' names; the sentence is written afterwards and
    decides nothing.

    Attributes:
        policy: The rules in your own words.
        labels: The categories; the first one is that of texts that keep to the policy.
        threshold: Score from which a text is flagged.
        rationale: Whether a sentence says why.
        even: Every category counts alike, however rare: decided for the highest mean F1 over them.

    Example:
        >>> Moderate(labels=("fine", "rude")).instruction()
        'Judge the text by this policy: Nobody is insulted or threatened. Answer with one word: fine or rude.'
    """

    policy: str = "Nobody is insulted or threatened."
    labels: tuple[str, ...] = ("acceptable", "insult", "hate", "threat", "sexual")
    threshold: float = 0.5
    rationale: bool = True

    defines: ClassVar[tuple[str, ...]] = ("labels", "policy")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold < 1:
            raise InvalidInput(f"The threshold is {self.threshold}, expected more than 0 and less than 1.")

    def instruction(self) -> str:
        """Return what the model is told before every text."""
        policy = self.policy.strip().rstrip(".")
        return f"Judge the text by this policy: {policy}. Answer with one word: {choice_of(self.labels)}."

    def run(self, text: str, model: LanguageModel) -> Working:
        """Judge a text, and write why."""
        result = super().many([text], model)[0]
        if self.rationale:
            result["rationale"] = yield from within_words(
                model.write(self._why(text, result), Manner(96, penalty=1.1)), _WORDS
            )
        return result

    def many(self, texts: Sequence[str], model: LanguageModel) -> list[dict[str, Any]]:
        """Judge each of several texts."""
        found = super().many(texts, model)
        for text, result in zip(texts, found, strict=True) if self.rationale else ():
            pieces = model.write(self._why(text, result), Manner(96, penalty=1.1))
            result["rationale"] = "".join(within_words(pieces, _WORDS))
        return found

    def result(self, probabilities: Sequence[float]) -> dict[str, Any]:
        """Return a result of the categories' probabilities."""
        found = super().result(probabilities)
        score = 1 - found["scores"][self.labels[0]]
        worst = max(self.labels[1:], key=found["scores"].__getitem__)
        flagged = score >= self.threshold
        return {"flagged": flagged, "score": score, "category": worst if flagged else None, **found}

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return the verdict."""
        verdict = f"flagged as {result['category']}" if result["flagged"] else "keeps to the policy"
        return f"{verdict} (score {result['score']:.2f})"

    def whole(self, result: Mapping[str, Any]) -> str:
        """Return the verdict with its reason."""
        return "\n".join(part for part in (self.shown(result), result.get("rationale", "")) if part)

    def _why(self, text: str, result: Mapping[str, Any]) -> list[Message]:
        verdict = f"breaks the policy ({result['category']})" if result["flagged"] else "keeps to the policy"
        asked = f"Policy: {self.policy}\nText: {text}\n\nThis text {verdict}. Say in one short sentence why."
        return said(("user", asked))
