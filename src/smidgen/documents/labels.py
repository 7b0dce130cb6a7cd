"""Labels on a page: where something is called what a field is called."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from smidgen.documents.layout import Layout, Segment
from smidgen.documents.page import Box, around
from smidgen.documents.vocabulary import NUMBER, Concept, concepts, near, placed_tokens

_WEAK = 0.62
_FUZZY = 0.9
_JOINED = 6
"""Letters that two words of a label must have together to be found where a reader lost the space between them."""
_PROSE = 9


@dataclass(frozen=True)
class Label:
    """A place where a page names something.

    Attributes:
        names: The concepts that it may name, each with how surely, 0 to 1.
        segment: Where it stands.
        begin: Where it begins in the segment's text.
        end: Where it ends there, a colon included.
        colon: Whether a colon follows it.
    """

    names: Mapping[str, float]
    segment: Segment
    begin: int
    end: int
    colon: bool

    @cached_property
    def box(self) -> Box:
        """Where it stands on the straight page."""
        words = self.segment.between(self.begin, self.end)
        return around([word.straight for word in words])

    @cached_property
    def rest(self) -> str:
        """What follows it in its segment."""
        return self.segment.text[self.end :]


class Labels:
    """Finds labels of the concepts that are known, and of fields of a schema that nothing is known about.

    Args:
        own: Names of further things, each with what pages may call it.
    """

    def __init__(self, own: Mapping[str, Iterable[tuple[str, ...]]]) -> None:
        self._entries: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        for concept in concepts().values():
            self._add(concept)
        for name, labels in own.items():
            for label in labels:
                if label:
                    self._put(label, name, 1.0)
        self._longest = max(map(len, self._entries))
        words = {word for label in self._entries for word in label if len(word) >= 5}
        self._alike: dict[str, set[str]] = defaultdict(set)
        for word in words:
            for key in _shortened(word):
                self._alike[key].add(word)
        self._known = {word for label in self._entries for word in label}

    def find(self, layout: Layout) -> list[Label]:
        """Return the labels of a page."""
        return [label for segment in layout.segments for label in self._in(segment)]

    def _add(self, concept: Concept) -> None:
        for labels, weight in ((concept.labels, 1.0), (concept.weak, _WEAK)):
            for label in labels:
                self._put(label, concept.name, weight)

    def _put(self, label: tuple[str, ...], name: str, weight: float) -> None:
        spellings = {label}
        if len(label) > 1 and sum(map(len, label)) >= _JOINED:
            spellings.add(("".join(label),))
            spellings |= {("".join(label[:-1]) + short,) for short in ("no", "nr") if label[-1] == "number"}
        for spelling in spellings:
            entry = self._entries[spelling]
            entry[name] = max(weight, entry.get(name, 0.0))

    def _in(self, segment: Segment) -> list[Label]:
        placed = placed_tokens(segment.text)
        spelled = [self._spelled(word) for word, _, _ in placed]
        found: list[Label] = []
        index = 0
        while index < len(placed):
            length = next(
                (
                    count
                    for count in range(min(self._longest, len(placed) - index), 0, -1)
                    if tuple(word for word, _ in spelled[index : index + count]) in self._entries
                ),
                0,
            )
            if not length:
                index += 1
                continue
            label = self._label(segment, placed, spelled, index, length, found[-1].end if found else 0)
            if label is not None:
                found.append(label)
            index += length
        return found

    def _label(
        self,
        segment: Segment,
        placed: list[tuple[str, int, int]],
        spelled: list[tuple[str, bool]],
        index: int,
        length: int,
        before: int,
    ) -> Label | None:
        """Weigh a place where the words of a label stand; None where it is in the midst of other words."""
        begin, end = placed[index][1], placed[index + length - 1][2]
        text = segment.text
        mark = re.match(r"[\s.)\]]*(?:\([^()]{1,12}\))?[\s.]*[:：=]", text[end:])
        colon = mark is not None
        end += mark.end() if mark else 0
        words_before = re.findall(r"[^\W\d_]{2,}", text[before:begin])
        exact = all(sure for _, sure in spelled[index : index + length])
        weight = 1.0 if exact else _FUZZY
        if words_before:
            weight *= 0.75 if colon else 0.55
        elif text[before:begin].strip():
            weight *= 0.9
        follows = text[end : end + 1]
        if len(placed) > _PROSE and not colon and length < 3:
            weight *= 0.5
        if (begin and text[begin - 1] in "@./-&'") or (not colon and follows in ("@", "'", "&") and follows):
            return None
        if length == 1 and placed[index][0] == NUMBER and not colon and not re.match(r"\W*\w*\d", text[end:]):
            return None  # "No" may be an answer as well
        if length == 1 and placed[index][0] == NUMBER and not colon:
            weight *= 0.6  # and "No 12" the number of a house
        entry = self._entries[tuple(word for word, _ in spelled[index : index + length])]
        return Label({name: weight * own for name, own in entry.items()}, segment, begin, end, colon)

    def _spelled(self, word: str) -> tuple[str, bool]:
        """Return the known word that a word of the page stands for, and whether it is spelled so."""
        if word in self._known or len(word) < 5:
            return word, True
        for key in _shortened(word):
            for known in self._alike.get(key, ()):
                if near(word, known):
                    return known, False
        return word, True


def _shortened(word: str) -> set[str]:
    """Return a word and the word without each of its letters, by which words that are near share one."""
    return {word, *(word[:index] + word[index + 1 :] for index in range(len(word)))}
