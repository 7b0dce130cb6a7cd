"""What fields are called: in schemas, and on pages in several languages. The words lie in ``vocabulary.toml``."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources

NUMBER = "number"
LITTLE_WORDS = frozenset({
    "the", "a", "an", "of", "for", "and", "or", "in", "on", "to", "is", "this", "that", "as", "by", "with", "what",
    "your", "please", "enter", "de", "der", "die", "la", "le",
})  # fmt: skip
"""Words that tell labels apart from nothing."""

_NUMBER_WORDS = frozenset({"no", "nr", "num", "nbr", "number", "numero", "numer", "nummer", "n", "nos"})
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[#№]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Concept:
    """Something that documents have a value for.

    Attributes:
        name: What it is called here.
        kind: The kind of its values.
        names: What schemas call it.
        labels: What pages call it.
        weak: What pages call it too, and other things as well.
        unlabelled: How plausible a value without a label is, as log-odds; None where it needs one.
        last: Whether the last of several values behind one label counts.
    """

    name: str
    kind: str
    names: tuple[tuple[str, ...], ...]
    labels: tuple[tuple[str, ...], ...]
    weak: tuple[tuple[str, ...], ...]
    unlabelled: float | None = None
    last: bool = False


def tokens(text: str) -> tuple[str, ...]:
    """Return the words of a label or a field's name in one spelling: no accents, no case, one word for "number".

    Example:
        >>> tokens("Facture n° 12"), tokens("invoiceNo"), tokens("gültig_bis")
        (('facture', 'number', '12'), ('invoice', 'number'), ('gultig', 'bis'))
    """
    return tuple(word for word, _, _ in placed_tokens(text))


def placed_tokens(text: str) -> list[tuple[str, int, int]]:
    """Return the words of `tokens`, each with where it begins and ends in the text."""
    found: list[tuple[str, int, int]] = []
    for match in _TOKEN.finditer(text):
        begin = match.start()
        pieces = _CAMEL.split(match.group())
        for piece in pieces:
            plain = plain_word(piece)
            end = begin + len(piece)
            single = plain == "n" and text[end : end + 1] not in ("°", "º", "o", ".", ":")
            if plain in ("#", "№") or (plain in _NUMBER_WORDS and not single):
                plain = NUMBER
            if found and plain == NUMBER and found[-1][0] == NUMBER:
                found[-1] = (NUMBER, found[-1][1], end)  # "No. #" is one word
            else:
                found.append((plain, begin, end))
            begin = end
    return found


@cache
def plain_word(word: str) -> str:
    """Return a word without accents and case."""
    split = unicodedata.normalize("NFKD", word.casefold().replace("ß", "ss").replace("ł", "l"))
    return "".join(character for character in split if not unicodedata.combining(character))


@cache
def concepts() -> dict[str, Concept]:
    """Return all concepts by name.

    Example:
        >>> concepts()["total"].kind
        'amount'
    """
    text = resources.files("smidgen.documents").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    return {
        name: Concept(
            name,
            entry["kind"],
            tuple(tokens(each) for each in entry["names"]),
            tuple(tokens(each) for each in entry["labels"]),
            tuple(tokens(each) for each in entry.get("weak", ())),
            entry.get("unlabelled"),
            entry.get("pick") == "last",
        )
        for name, entry in tomllib.loads(text).items()
    }


def concept_of(name: str, *, kind: str | None = None) -> Concept | None:
    """Return the concept that a schema's field stands for by its name, None where there is none.

    A name that only ends in, or begins with, what a concept is called stands for it too, if nothing else fits.

    Args:
        name: The field's name or title.
        kind: The kind that its values must have, None for any.

    Example:
        >>> concept_of("invoiceNumber").name, concept_of("total_amount").name, concept_of("shoe size")
        ('invoice_number', 'total', None)
    """
    words = tokens(name)
    fitting = [each for each in concepts().values() if kind is None or each.kind == kind]
    named = next((each for each in fitting if words in each.names), None)
    found = named or next((each for each in fitting if words in each.labels), None)
    if found is not None:
        return found
    ordered = tuple(sorted(words))
    return next((each for each in fitting if any(tuple(sorted(known)) == ordered for known in each.names)), None)


def near(one: str, other: str) -> bool:
    """Say whether two words differ by one letter at most: changed, missing, too many, or two exchanged.

    Example:
        >>> near("invoice", "lnvoice"), near("invoice", "invoce"), near("total", "tools")
        (True, True, False)
    """
    if one == other:
        return True
    if abs(len(one) - len(other)) > 1:
        return False
    short, long = sorted((one, other), key=len)
    begin = next((index for index, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) == len(long):
        swapped = begin + 1 < len(short) and short[begin] == long[begin + 1] and short[begin + 1] == long[begin]
        return short[begin + 1 :] == long[begin + 1 :] or (swapped and short[begin + 2 :] == long[begin + 2 :])
    return short[begin:] == long[begin + 1 :]
