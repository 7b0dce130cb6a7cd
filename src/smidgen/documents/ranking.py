"""How plausible each candidate is for each field, from labels, places and looks, as log-odds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smidgen.documents.candidates import Candidate
from smidgen.documents.claims import Claim, Pointing, overlap, strongest
from smidgen.documents.habits import Habits
from smidgen.documents.kinds import Kind, build, everywhere
from smidgen.documents.labels import Label, Labels
from smidgen.documents.layout import Layout
from smidgen.documents.schema import AUTHORED, Field
from smidgen.documents.vocabulary import LITTLE_WORDS, concepts, near, placed_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLOPE, _OFFSET, _AGAINST = 5.6, 2.2, 4.5
_MOST = 24
_LOWER = 0.4
"""How much more a sum counts at the foot of a page than at its head, where the last one is wanted."""
_STOP = LITTLE_WORDS | {"number"}
_SIMILAR = 0.6


@dataclass(frozen=True)
class Ranked:
    """A candidate for a field.

    Attributes:
        candidate: The value.
        logit: Log-odds that it is the field's value, from the layout alone.
        labelled: How surely a label gives it to the field, 0 to 1.
        context: The line that it stands in, with the one above, for a model to read.
    """

    candidate: Candidate
    logit: float
    labelled: float
    context: str = ""


class Ranker:
    """Ranks what stands on pages for the fields of a schema.

    Args:
        fields: The fields.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = [field for field in fields if field.kind not in AUTHORED]
        own = {name_of(field): field.labels for field in self._fields if field.concept is None}
        self._labels = Labels(own)
        self._kinds: dict[str, Kind] = {
            name: build(name) for name in {each.kind for each in concepts().values()} - {"none"}
        }

    def rank(self, layout: Layout, habits: Habits) -> dict[str, list[Ranked]]:
        """Return for each field's path what on a page may be its value, the likeliest first."""
        labels = [*self._labels.find(layout), *self._similar(layout)]
        pointing = Pointing(layout, labels, habits)
        common = list(self._claims(labels, pointing))
        found = {}
        for field in self._fields:
            kind = self._kind(field)
            own = common
            if field.concept is None or kind is not self._kinds.get(field.concept.kind):
                own = [*common, *self._own_claims(field, kind, labels, pointing)]
            found[field.path] = self._ranked(field, kind, own, layout, habits)
        return found

    def _kind(self, field: Field) -> Kind:
        return (
            build("choice", options=field.options)
            if field.kind == "choice"
            else self._kinds.get(field.kind) or build(field.kind)
        )

    def _claims(self, labels: Sequence[Label], pointing: Pointing) -> Iterator[Claim]:
        """Follow every label to values of the kinds that its concepts have."""
        for label in labels:
            kinds = {(concepts()[name].kind, concepts()[name].last) for name in label.names if name in concepts()}
            for kind, last in kinds:
                if kind != "none":
                    yield from pointing.claims(label, self._kinds[kind], kind, last=last)

    def _own_claims(self, field: Field, kind: Kind, labels: Sequence[Label], pointing: Pointing) -> Iterator[Claim]:
        for label in labels:
            if name_of(field) in label.names:
                yield from pointing.claims(label, kind, field.kind)

    def _ranked(
        self, field: Field, kind: Kind, claims: Sequence[Claim], layout: Layout, habits: Habits
    ) -> list[Ranked]:
        name = name_of(field)
        pool: list[Candidate] = [claim.candidate for claim in claims if claim.kind == field.kind and claim.of(name) > 0]
        prior = field.concept.unlabelled if field.concept else None
        if prior is not None and field.kind == (field.concept.kind if field.concept else ""):
            pool += [
                each for each in everywhere(kind, layout, habits) if not any(overlap(each, other) for other in pool)
            ]
        found: list[Ranked] = []
        for candidate in _distinct(pool):
            own, against = strongest(claims, candidate, name)
            logit = -math.inf
            if own:
                logit = _SLOPE * own - _OFFSET - _AGAINST * max(0.0, against - own)
            if prior is not None:
                bare = prior + candidate.unlabelled + 3 * math.log(max(0.05, candidate.quality)) - _AGAINST * against
                logit = max(logit, bare) + (0.3 if own and bare > 0 else 0.0)
            if field.concept is not None and field.concept.last:
                logit += _LOWER * candidate.box.middle / max(1.0, layout.page.height)
            found.append(Ranked(candidate, logit, own, _context(candidate, layout)))
        found.sort(key=lambda each: -each.logit)
        return _fitting(found, field)[:_MOST]

    def _similar(self, layout: Layout) -> list[Label]:
        """Find labels that share most words with the name of a field that nothing is known about."""
        own = [(name_of(field), label) for field in self._fields if field.concept is None for label in field.labels]
        found: list[Label] = []
        for segment in layout.segments:
            head, colon, _ = segment.text.partition(":")
            words = [word for word, _, _ in placed_tokens(head)]
            if not words or len(words) > 7 or (not colon and (len(words) > 5 or any(word.isdigit() for word in words))):
                continue
            names: dict[str, float] = {}
            for name, label in own:
                likeness = _shared(words, label)
                if likeness >= _SIMILAR and tuple(words) != label:
                    names[name] = max(names.get(name, 0.0), 0.92 * likeness)
            if names:
                found.append(Label(names, segment, 0, len(head) + len(colon), bool(colon)))
        return found


def name_of(field: Field) -> str:
    """Return the name by which labels speak of a field: its concept's, or its own."""
    return field.concept.name if field.concept else f"field {field.path}"


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    kept: dict[tuple[object, ...], Candidate] = {}
    for each in candidates:
        key = (each.page, each.segment.line, each.segment.index, each.begin, each.end, str(each.value))
        if key not in kept or len(each.words) > len(kept[key].words):
            kept[key] = each
    return list(kept.values())


def _fitting(found: list[Ranked], field: Field) -> list[Ranked]:
    """Put those first that the field's own pattern allows; the others stay, to be told as of a wrong format."""
    pattern = field.pattern
    if pattern is None:
        return found
    shift = [
        each if pattern.search(str(each.candidate.value)) else replace(each, logit=each.logit - 3.0) for each in found
    ]
    return sorted(shift, key=lambda each: -each.logit)


def _context(candidate: Candidate, layout: Layout) -> str:
    line = candidate.segment.line
    near_lines = layout.lines[max(0, line - 1) : line + 1]
    return "\n".join("  ".join(segment.text for segment in each) for each in near_lines)


def _shared(words: Sequence[str], label: Sequence[str]) -> float:
    """Return the harmonic mean of the shares of words that two labels have in common, little words left out."""
    one = [word for word in words if word not in _STOP] or list(words)
    other = [word for word in label if word not in _STOP] or list(label)
    same = sum(any(word == each or (len(word) >= 5 and near(word, each)) for each in other) for word in one)
    return 2 * same / (len(one) + len(other))
