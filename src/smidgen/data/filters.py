"""What speaks against a text: it repeats itself, or is not in a wanted language."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

from smidgen.data.shingles import words
from smidgen.errors import MissingExtra, ReferenceNotFound

ENOUGH_WORDS = 50
"""Words from which a text is judged by its repetitions."""
MOST_REPEATED_LINES, WORDS_PER_LINE = 0.3, 4
"""Share of the lines that may repeat earlier ones; shorter lines do not count, since programs repeat them by nature."""
MOST_OF_ONE_RUN = {2: 0.20, 3: 0.18, 4: 0.16}
"""Largest share of all characters that the most frequent run of so many words may make up."""
LANGUAGE_SAMPLE = 2_000


def repeats_itself(text: str) -> bool:
    r"""Whether a text of 50 words or more is mostly repetition.

    It is where more than 30% of its lines (of four words or more) repeat earlier ones, or its most frequent run of
    two, three or four words makes up more than 20, 18 or 16% of its characters. Source: Rae 2021, arXiv 2112.11446,
    table A1.

    Example:
        >>> repeats_itself("buy now cheap " * 40), repeats_itself("buy now cheap")
        (True, False)
    """
    found = words(text)
    if len(found) < ENOUGH_WORDS:
        return False
    lines = [line.strip() for line in text.splitlines() if len(words(line)) >= WORDS_PER_LINE]
    if lines and 1 - len(set(lines)) / len(lines) > MOST_REPEATED_LINES:
        return True
    characters = sum(map(len, found))
    for size, most in MOST_OF_ONE_RUN.items():
        runs = Counter(tuple(found[at : at + size]) for at in range(len(found) - size + 1))
        run, count = runs.most_common(1)[0]
        if count > 1 and count * sum(map(len, run)) > most * characters:
            return True
    return False


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the language that a text is most likely in, by its first 2,000 characters.

    Computed by the package py3langid (naive Bayes on runs of bytes). Short texts are often mistaken.

    Raises:
        MissingExtra: The package is not installed.
    """
    code: str = _identifier().classify(text[:LANGUAGE_SAMPLE])[0]
    return code


def require_known(languages: tuple[str, ...]) -> None:
    """Refuse languages that cannot be told apart.

    Raises:
        ReferenceNotFound: A code is unknown.
        MissingExtra: The package is not installed.
    """
    known = set(_identifier().labels) if languages else set()
    for language in languages:
        if language not in known:
            raise ReferenceNotFound.among("language", language, known)


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra.of("telling languages apart", "py3langid", "data") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE)
