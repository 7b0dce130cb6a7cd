"""Rules that find what says who somebody is: addresses, numbers, dates, names behind titles."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_NAME = r"[^\W\d_a-zß-öø-ÿ][\w'’-]*"
_NAMES = rf"{_NAME}(?:[ \t]+(?:(?:van|von|de|da|di|del|der|den|la|le|bin|al)[ \t]+)*{_NAME})*"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Way|Terrace|Close"
    r"|Parkway|Pkwy|Highway|Hwy)"
)
_LABEL = (
    r"(?:MRN|SSN|NHS|patient|medical record|record|account|acct|policy|passport|licen[cs]e|member|customer|case|claim"
    r"|invoice|insurance|tax|employee|student|badge|serial)"
)


@dataclass(frozen=True)
class Span:
    """Something found in a text.

    Attributes:
        kind: What it is: "EMAIL", "DATE", "NAME", …
        begin: Where it begins.
        end: Where it ends.
    """

    kind: str
    begin: int
    end: int


@dataclass(frozen=True)
class _Rule:
    kind: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = lambda found: True


def _rule(kind: str, pattern: str, holds: Callable[[str], bool] = lambda found: True, flags: int = 0) -> _Rule:
    return _Rule(kind, re.compile(pattern, flags), holds)


def passes_luhn(text: str) -> bool:
    """Say whether the digits of a text have the check digit of payment cards (ISO/IEC 7812).

    Example:
        >>> passes_luhn("4111 1111 1111 1111"), passes_luhn("4111 1111 1111 1112")
        (True, False)
    """
    digits = [int(sign) for sign in text if sign.isdecimal()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def passes_iban(text: str) -> bool:
    """Say whether a text has the check digits of an account number (ISO 13616).

    Example:
        >>> passes_iban("DE89 3704 0044 0532 0130 00"), passes_iban("DE88 3704 0044 0532 0130 00")
        (True, False)
    """
    bare = re.sub(r"\s", "", text).upper()
    if not (15 <= len(bare) <= 34 and bare.isascii() and bare.isalnum()):
        return False
    return int("".join(str(int(sign, 36)) for sign in bare[4:] + bare[:4])) % 97 == 1


def _is_dialled(found: str) -> bool:
    """Whether a text has as many digits as telephone numbers have (E.164)."""
    return 7 <= sum(sign.isdigit() for sign in found) <= 15


RULES: tuple[_Rule, ...] = (
    _rule("EMAIL", r"[\w.+%'-]+@[\w-]+(?:\.[\w-]+)+"),
    _rule("URL", r"(?:https?://|www\.)[^\s\[\]<>\"]+", flags=re.IGNORECASE),
    _rule("IBAN", r"\b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]){11,30}\b", passes_iban),
    _rule("CARD", r"\d(?:[ -]?\d){12,18}", passes_luhn),
    _rule("SSN", r"\b\d{3}-\d{2}-\d{4}\b"),
    _rule("IP", r"\b\d{1,3}(?:\.\d{1,3}){3}\b"),
    _rule("IP", r"\b(?:[0-9a-f]{1,4}:){3,7}:?[0-9a-f]{1,4}\b", flags=re.IGNORECASE),
    _rule("DATE", r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b"),
    _rule("DATE", r"\b\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}\b"),
    _rule("DATE", rf"\b{_DAY}(?: of)?[ -]{_MONTH}(?:,?[ -]\d{{2,4}})?\b", flags=re.IGNORECASE),
    _rule("DATE", rf"\b{_MONTH}[ -]{_DAY}(?:,?[ -]\d{{4}})?\b", flags=re.IGNORECASE),
    _rule("DATE", rf"\b{_MONTH},? \d{{4}}\b", flags=re.IGNORECASE),
    _rule("PHONE", r"(?:\+|\b00)\d(?:[ \t./()-]{0,2}\d){6,14}"),
    _rule("PHONE", r"\(?\b\d{2,5}\)?(?:[ \t./-]{1,2}\d{2,5}){1,4}", _is_dialled),
    _rule("ADDRESS", rf"\b\d{{1,5}}[A-Za-z]?,?[ \t]+(?:[^\W\d_][\w'’.-]*[ \t]+){{1,4}}{_STREET}\b\.?"),
    _rule("ADDRESS", r"\b[A-Z]{1,2}\d[A-Z\d]?[ ]\d[A-Z]{2}\b"),
    _rule("ADDRESS", r"\bP\.?[ ]?O\.?[ ]Box[ ]\d+", flags=re.IGNORECASE),
    _rule(
        "ID",
        rf"\b{_LABEL}(?:[ ](?:id|no|number|nr))?[ ]?(?:\.|:|#|is)[ ]*([A-Z]{{0,4}}-?\d[\w-]{{2,}})",
        flags=re.IGNORECASE,
    ),
    _rule("ID", r"\b(?=[A-Z0-9-]*\d[A-Z0-9-]*\d[A-Z0-9-]*\d)(?=[A-Z0-9-]*[A-Z])[A-Z0-9][A-Z0-9-]{4,}[A-Z0-9]\b"),
    _rule("NAME", rf"\b(?:Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Sir|Madam|Rev|Capt|Sgt|Nurse)\b\.?[ \t]+({_NAMES})"),
    _rule("NAME", rf"\b(?:[Mm]y name is|[Nn]ame:|[Pp]atient:|Dear|[Ss]igned:?|Sincerely,\s)[ \t]*({_NAMES})"),
    _rule("NUMBER", r"\d(?:[ \t.,/-]?\d){4,}"),
)
"""Each finds what its pattern matches, or its first group; NUMBER takes whatever has five digits or more."""

KINDS = tuple(dict.fromkeys(rule.kind for rule in RULES))


def find(text: str, *, keep: Sequence[str] = ()) -> list[Span]:
    """Return what the rules find, in the order of the text; what overlaps counts as one.

    Args:
        text: Any text.
        keep: Kinds that are left, with whatever other rules find in them.

    Example:
        >>> [span.kind for span in find("Mail ann@example.org before 3 May 2024.")]
        ['EMAIL', 'DATE']
    """
    found, kept = list[Span](), list[Span]()
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            if rule.holds(match[0]):
                group = 1 if rule.pattern.groups else 0
                span = Span(rule.kind, match.start(group), match.end(group))
                (kept if rule.kind in keep else found).append(span)
    # What stays wholly within something that is kept is part of it; what reaches beyond goes.
    return joined(span for span in found if not any(one.begin <= span.begin and span.end <= one.end for one in kept))


def joined(spans: Iterable[Span]) -> list[Span]:
    """Join spans that overlap; the one that begins first names the whole, of those the longest."""
    whole: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.begin, -each.end)):
        if whole and span.begin < whole[-1].end:
            last = whole[-1]
            whole[-1] = Span(last.kind, last.begin, max(last.end, span.end))
        else:
            whole.append(span)
    return whole


def replaced(text: str, spans: Sequence[Span]) -> str:
    """Return a text with the kind of each span in its place.

    Example:
        >>> replaced("Call Ann.", [Span("NAME", 5, 8)])
        'Call [NAME].'
    """
    shown, place = "", 0
    for span in spans:
        shown += f"{text[place : span.begin]}[{span.kind}]"
        place = span.end
    return shown + text[place:]


def cleaned(text: str, *, keep: Sequence[str] = ()) -> str:
    """Replace what the rules find until they find nothing more.

    Example:
        >>> cleaned("Dr. Ann Lee, +44 20 7946 0958")
        'Dr. [NAME], [PHONE]'
    """
    while spans := find(text, keep=keep):
        text = replaced(text, spans)
    return text
