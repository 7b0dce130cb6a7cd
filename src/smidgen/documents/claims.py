"""Which values the labels of a page point to, and how surely."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from smidgen.documents.candidates import Candidate, Span, in_segment
from smidgen.documents.habits import Habits
from smidgen.documents.kinds import Kind
from smidgen.documents.kinds.address import Address
from smidgen.documents.labels import Label
from smidgen.documents.layout import Layout, Segment

WORDED = frozenset({"text", "person", "organisation", "address"})
"""Kinds whose values are whatever stands where a label points."""

_INLINE_COLON, _INLINE, _RIGHT, _BELOW, _NEXT = 1.0, 0.95, 0.93, 0.84, 0.5
_INLINE_WORDS = 0.55
_REACH = 2.4
_SHARE = 0.4
_HEADER_COLUMNS = 2


@dataclass(frozen=True)
class Claim:
    """A label that points to a value.

    Attributes:
        candidate: The value.
        label: The label.
        kind: The value's kind.
        strength: How surely it points there, 0 to 1.
    """

    candidate: Candidate
    label: Label
    kind: str
    strength: float

    def of(self, name: str) -> float:
        """Return how surely the value is that of a concept, 0 where the label does not name it."""
        return self.strength * self.label.names.get(name, 0.0)


class Pointing:
    """Follows the labels of a page to values.

    Args:
        layout: The page.
        labels: Its labels.
        habits: How the document writes.
    """

    def __init__(self, layout: Layout, labels: Sequence[Label], habits: Habits) -> None:
        self._layout, self._habits = layout, habits
        self._labels: dict[tuple[int, int], list[Label]] = defaultdict(list)
        for label in labels:
            self._labels[label.segment.line, label.segment.index].append(label)
        self._headers = {line for line in {label.segment.line for label in labels} if self._is_header(line, labels)}
        self._beside = self._share_beside(labels)

    def claims(self, label: Label, kind: Kind, name: str, *, last: bool = False) -> list[Claim]:
        """Return the values of a kind that a label points to.

        Args:
            label: The label.
            kind: The kind of value.
            name: The kind's name.
            last: Whether the last value beside the label counts most, instead of the first.
        """
        beside = self._beside_label(label, kind, name, last)
        found = list(beside)
        if not any(claim.strength > 0.5 for claim in beside):
            found += self._below_label(label, kind, name)
        return found

    def is_header(self, line: int) -> bool:
        """Say whether a line is the head of a table of rows."""
        return line in self._headers

    def _is_header(self, line: int, labels: Sequence[Label]) -> bool:
        names = [label.names for label in labels if label.segment.line == line]
        return (
            sum(any(name.startswith("line_") for name in each) for each in names) >= _HEADER_COLUMNS
            and len(names) > _HEADER_COLUMNS
        )

    def _share_beside(self, labels: Sequence[Label]) -> float:
        """Return the share of labels with a colon that have something beside them; 0 where there are few."""
        marked = [label for label in labels if label.colon]
        if len(marked) < 3:
            return 0.0
        return sum(bool(self._inline(label).strip() or self._right(label)) for label in marked) / len(marked)

    def _inline(self, label: Label) -> str:
        """Return what follows a label in its segment, up to the next label."""
        following = [each.begin for each in self._at(label.segment) if each.begin >= label.end]
        return label.segment.text[label.end : min(following, default=None)]

    def _right(self, label: Label) -> list[Segment]:
        """Return the segments to the right of a label, up to the next label."""
        if any(each.begin >= label.end for each in self._at(label.segment)):
            return []
        found: list[Segment] = []
        for segment in self._layout.lines[label.segment.line][label.segment.index + 1 :]:
            if any(not segment.text[: each.begin].strip() for each in self._at(segment)):
                break
            found.append(segment)
        return found

    def _at(self, segment: Segment) -> list[Label]:
        return self._labels.get((segment.line, segment.index), [])

    def _beside_label(self, label: Label, kind: Kind, name: str, last: bool) -> list[Claim]:
        page = self._layout.page.number
        inline = self._inline(label)
        found: list[tuple[Candidate, float]] = []
        spans = [] if not inline.strip() else list(kind.spans(inline, self._habits))
        moved = [_moved(span, label.end) for span in spans]
        strength = _INLINE_COLON if label.colon else _INLINE_WORDS if name in WORDED else _INLINE
        found += [(each, strength) for each in in_segment(label.segment, page, moved)]
        if name in WORDED:
            if not found:
                found += [(each, _RIGHT) for segment in self._right(label)[:1] for each in self._whole(segment, kind)]
            return [
                Claim(self._continued(each, name), label, name, strength * each.quality) for each, strength in found[:1]
            ]
        for segment in self._right(label):
            values = list(in_segment(segment, page, kind.spans(segment.text, self._habits)))
            if not values and found and any(character.isalpha() for character in segment.text):
                break
            found += [(each, _RIGHT) for each in values]
        if not found:
            return []
        good = [index for index, (each, _) in enumerate(found) if each.quality >= 0.8] or list(range(len(found)))
        best = good[-1] if last else good[0]
        return [
            Claim(each, label, name, strength * each.quality**0.5 * (1.0 if index == best else _NEXT))
            for index, (each, strength) in enumerate(found)
        ]

    def _below_label(self, label: Label, kind: Kind, name: str) -> list[Claim]:
        if label.segment.line in self._headers or self._inline(label).strip(" :.-_()"):
            return []
        strength = _BELOW * (0.45 if label.colon and self._beside >= 0.6 else 1.0)
        found: list[Claim] = []
        for segment in self._layout.below(label.box, _REACH):
            if segment.line == label.segment.line:
                continue
            if any(not segment.text[: each.begin].strip(" .-*") for each in self._at(segment)):
                break
            values = [each for each in self._whole(segment, kind) if name in WORDED or _fills(each)]
            if name in WORDED and ":" in segment.text[:-1]:
                break
            apart = abs(segment.box.left - label.box.left)
            aligned = 1.0 if apart < 2 * self._layout.height or segment.box.overlap_across(label.box) > 0.6 else 0.8
            weight = strength * aligned
            found += [
                Claim(self._continued(each, name), label, name, weight * each.quality**0.5) for each in values[:1]
            ]
            break
        return found

    def _whole(self, segment: Segment, kind: Kind) -> list[Candidate]:
        return list(in_segment(segment, self._layout.page.number, kind.spans(segment.text, self._habits)))

    def _continued(self, candidate: Candidate, name: str) -> Candidate:
        """Give an address the lines that follow it."""
        return Address().following(candidate, self._layout) if name == "address" else candidate


def _fills(candidate: Candidate) -> bool:
    """Say whether a value is most of its segment: what stands under a label is the value alone, or nearly so."""
    return candidate.end - candidate.begin >= _SHARE * len(candidate.segment.text)


def _moved(span: Span, by: int) -> Span:
    return replace(span, begin=span.begin + by, end=span.end + by)


def overlap(one: Candidate, other: Candidate) -> bool:
    """Say whether two candidates stand at the same place, at least half of the shorter one."""
    return _shared(one, other) > 0.5 * max(1, min(one.end - one.begin, other.end - other.begin))


def _shared(one: Candidate, other: Candidate) -> int:
    """Return how many characters two candidates share."""
    same = (one.page, one.segment.line, one.segment.index) == (other.page, other.segment.line, other.segment.index)
    return min(one.end, other.end) - max(one.begin, other.begin) if same else 0


def strongest(claims: Iterable[Claim], candidate: Candidate, name: str) -> tuple[float, float]:
    """Return how surely labels give a value to a concept, and to others that it is not.

    A label that names the concept among others speaks for it alone.
    """
    own = against = 0.0
    for claim in claims:
        if name in claim.label.names:
            if overlap(claim.candidate, candidate):
                own = max(own, claim.of(name))
        elif _shared(claim.candidate, candidate) > 0.5 * (candidate.end - candidate.begin):
            against = max(against, claim.strength * max(claim.label.names.values()))
    return own, against
