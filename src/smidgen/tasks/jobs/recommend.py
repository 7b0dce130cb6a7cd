"""Which of your items fit what somebody liked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Message
from smidgen.tasks.passages import within_words
from smidgen.tasks.task import LanguageModel, Manner, Task, Working, require_above, require_text, said

_WORDS = 30
_FEW = 3


@dataclass(frozen=True)
class Recommend(Task):
    """Rank items by how near they are to what somebody liked, and say why.

    The score of an item is the mean cosine of its vector and those of the liked ones, the mean vector of all taken away
    first (Mu 2018, arXiv 1702.01417), since vectors of models that write lie close together. The nearest liked item
    comes with each; the sentence that says why is written by the model and decides nothing.

    Attributes:
        items: What there is to recommend.
        count: How many to recommend.
        explain: Whether a sentence says why.

    Example:
        >>> scores([[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1]])[0][0] > 0
        True
    """

    items: tuple[str, ...] = ()
    count: int = 5
    explain: bool = True

    taught_by: ClassVar[tuple[str, ...]] = ()
    streams: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_above("count", self.count, 1)

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked about one item."""
        return said(("user", text))

    def run(self, text: str, model: LanguageModel) -> Working:
        """Recommend items to somebody who liked those in the text, one a line."""
        liked = [line.strip() for line in require_text(text).splitlines() if line.strip()]
        known = {item.casefold() for item in liked}
        open_items = [item for item in dict.fromkeys(self.items) if item.strip() and item.casefold() not in known]
        if not open_items:
            raise InvalidInput("There are no items to choose from.", remedy="Give them: --items FILE, one a line.")
        vectors = model.vectors([*open_items, *liked])
        rows = scores(vectors[: len(open_items)], vectors[len(open_items) :])
        means = [sum(row) / len(row) for row in rows]
        best = sorted(range(len(open_items)), key=lambda number: (-means[number], number))[: self.count]
        found: list[dict[str, Any]] = []
        for number in best:
            nearest = max(range(len(liked)), key=rows[number].__getitem__)
            entry: dict[str, Any] = {"item": open_items[number], "score": means[number], "because": liked[nearest]}
            if self.explain and len(found) < _FEW:
                entry["why"] = self._why(open_items[number], liked[nearest], model)
            found.append(entry)
        yield from ()
        return {"recommendations": found}

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return the items in their order."""
        lines = []
        for number, each in enumerate(result["recommendations"], 1):
            lines.append(f"{number}. {each['item']} ({each['score']:+.2f}), since you liked {each['because']}")
            lines += [f"   {each['why']}"] if "why" in each else []
        return "\n".join(lines)

    def _why(self, item: str, liked: str, model: LanguageModel) -> str:
        asked = f"I liked: {liked}\nI may like: {item}\nSay in one short sentence what both have in common."
        pieces = model.write(self.turns(asked), Manner(64, penalty=1.1))
        return "".join(within_words(pieces, _WORDS))


def scores(items: Sequence[Sequence[float]], liked: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the cosine of each item and each liked one; where items are many enough, less their mean."""
    import numpy

    every = numpy.asarray([*items, *liked], numpy.float64)
    if len(items) > _FEW:
        every = every - every[: len(items)].mean(axis=0)
    every /= numpy.maximum(numpy.linalg.norm(every, axis=1, keepdims=True), 1e-12)
    found: list[list[float]] = (every[: len(items)] @ every[len(items) :].T).tolist()
    return found
