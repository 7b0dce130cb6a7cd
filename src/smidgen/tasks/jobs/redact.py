"""A text without what says who somebody is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.inference.engine import Message
from smidgen.tasks.calibration import contextual
from smidgen.tasks.identifiers import KINDS, Span, cleaned, find, joined, replaced
from smidgen.tasks.labels import SAYING_NOTHING
from smidgen.tasks.passages import STOP_WORDS
from smidgen.tasks.task import LanguageModel, Task, Working, require_text, said

PERSON = "person"
_OTHERS = ("place", "company", "topic")
_EXAMPLES = (
    ("Anna Kowalski", PERSON),
    ("London", "place"),
    ("Time Management", "topic"),
    ("David", PERSON),
    ("Microsoft", "company"),
    ("Berlin", "place"),
    ("Settings", "topic"),
)
_WORD = r"[^\W\d_a-zß-öø-ÿ][\w'’-]*[^\W\d_]"
_CANDIDATE = re.compile(rf"{_WORD}(?:[ \t]+(?:(?:van|von|de|da|di|del|der|den|bin|al)[ \t]+)?{_WORD})*")
_CALENDAR = """
monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september
october november december
"""
_NEVER = STOP_WORDS | frozenset(_CALENDAR.split())
_TOGETHER = 16


@dataclass(frozen=True)
class Redact(Task):
    """Take out names, dates, addresses and numbers of people: rules first, the model for names that no rule knows.

    Rules find email and web addresses, telephone, card, account and other numbers (each with five digits or more),
    dates, street addresses, identifiers behind their label and names behind a title; what they find is never left in.
    Of every other capitalised word the model says by likelihood whether it is a person's name; a small model errs, so
    read what must not leak.

    Attributes:
        names: Whether the model looks for names.
        threshold: Probability of a person from which a name goes; low, since what is left in costs more than what is
            taken out.
        keep: Kinds that stay: EMAIL, DATE, PHONE, NAME, NUMBER and so on.

    Example:
        >>> Redact(keep=("DATE",)).rules_only("Dr. Lee came on 3 May 2024, born 1990-01-01.")
        'Dr. [NAME] came on 3 May 2024, born 1990-01-01.'
    """

    names: bool = True
    threshold: float = 0.08
    keep: tuple[str, ...] = ()

    taught_by: ClassVar[tuple[str, ...]] = ()
    streams: ClassVar[bool] = False

    def __post_init__(self) -> None:
        unknown = next((kind for kind in self.keep if kind not in KINDS), None)
        if unknown is not None:
            raise ReferenceNotFound.among("kind", unknown, KINDS)
        if not 0 < self.threshold < 1:
            raise InvalidInput(f"The threshold is {self.threshold}, expected more than 0 and less than 1.")

    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked about a name; worked examples come first."""
        order = f"Say what each name is: {PERSON}, {', '.join(_OTHERS[:-1])} or {_OTHERS[-1]}."
        examples = [turn for name, kind in _EXAMPLES for turn in (("user", name), ("assistant", kind))]
        return said(("system", order), *examples, ("user", text or " "))

    def rules_only(self, text: str) -> str:
        """Return a text without what the rules find."""
        return cleaned(text, keep=self.keep)

    def run(self, text: str, model: LanguageModel) -> Working:
        """Redact a text; nothing that a rule finds is left, in what the model leaves either."""
        yield from ()
        require_text(text)
        by_rule = find(text, keep=self.keep)
        people = self._people(text, by_rule, model) if self.names and "NAME" not in self.keep else []
        found = joined([*by_rule, *people])
        rules = {(span.begin, span.end) for span in by_rule}
        places = [
            {"kind": span.kind, "begin": span.begin, "end": span.end, "by": "rule" if _among(span, rules) else "model"}
            for span in found
        ]
        return {"text": self.rules_only(replaced(text, found)), "found": places}

    def whole(self, result: Mapping[str, Any]) -> str:
        """Return the redacted text."""
        return str(result["text"])

    def _people(self, text: str, taken: list[Span], model: LanguageModel) -> list[Span]:
        """Return every place of a word that the model takes for a person's name."""
        asked = candidates(text, taken)
        names: set[str] = set()
        for begin in range(0, len(asked), _TOGETHER):
            part = asked[begin : begin + _TOGETHER]
            turns = [self.turns(name) for name in (*SAYING_NOTHING, *part)]
            values = model.likelihoods(turns, (PERSON, *_OTHERS), empty=self.turns(""))
            sure = contextual(values[len(SAYING_NOTHING) :], values[: len(SAYING_NOTHING)])[:, 0].tolist()
            names |= {name for name, p in zip(part, sure, strict=True) if p >= self.threshold}
        parts = names | {part for name in names for part in name.split() if part[:1].isupper()}
        return [
            Span("NAME", match.start(), match.end())
            for name in parts
            for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text)
        ]


def candidates(text: str, taken: list[Span]) -> list[str]:
    """Return what may be a name.

    Words that also occur in small letters, stop words, days and months are none.

    Example:
        >>> candidates("The doctor saw Ann Lee. The Doctor left.", [])
        ['Ann Lee']
    """
    small = set(re.findall(r"\b[a-z]\w+", text))
    found: dict[str, None] = {}
    for match in _CANDIDATE.finditer(text):
        words = match[0].split()
        while words and (words[0].lower() in _NEVER or words[0].lower() in small):
            words = words[1:]
        name = " ".join(words)
        begin = match.end() - len(name)
        if name and not any(span.begin < match.end() and begin < span.end for span in taken):
            found[name] = None
    return list(found)


def _among(span: Span, rules: set[tuple[int, int]]) -> bool:
    return any(begin < span.end and span.begin < end for begin, end in rules)
