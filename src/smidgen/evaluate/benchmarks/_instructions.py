"""The instructions of IFEval, each as a check of what was written.

A check is found by its name ("keywords:existence") and takes the text and the instruction's own values. They follow the
paper's table of instructions (Zhou et al. 2023, arXiv 2311.07911) and its published rows; a sentence ends where a
period, question or exclamation mark is followed by white space, save after usual abbreviations.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[..., bool]

OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
"""The answers that ``detectable_format:constrained_response`` allows."""

LEAST, LESS = "at least", "less than"
"""How a count is compared with the wanted one."""

_SHORT = re.compile(
    r"mr|mrs|ms|dr|prof|st|sr|jr|vs|etc|e\.g|i\.e|inc|ltd|co|corp|no|gen|rep|sen|gov|rev|fig|vol|al|[ap]\.m|u\.[sk]|[a-hj-z]"
)
_MARKERS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def sentences(text: str) -> int:
    """Count the sentences of a text; words behind the last end are one more.

    Example:
        >>> sentences("Dr. Who came at 3.30 p.m. and left. Why? Nobody knows"), sentences("")
        (3, 0)
    """
    count, begin = 0, 0
    for found in re.finditer(r"[.!?…]+[\"')\]”’*]*(?=\s|$)", text):
        following = text[found.end() :].lstrip()[:1]
        words = text[begin : found.start()].split()
        last = words[-1].lower().lstrip("\"'([“‘*") if words else ""
        shortened = found[0].startswith(".") and _SHORT.fullmatch(last)
        if shortened and following:
            continue
        if words:
            count += 1
        begin = found.end()
    return count + bool(text[begin:].strip())


def _holds(count: int, relation: str, wanted: int) -> bool:
    return count < wanted if relation == LESS else count >= wanted


def _parts(text: str, mark: str) -> list[str] | None:
    """Split a text; an empty part at either end does not count, one between others makes it None."""
    parts = re.split(mark, text)
    if any(not part.strip() for part in parts[1:-1]):
        return None
    return [part.strip() for part in parts if part.strip()]


def _in_language(text: str, code: str) -> bool:
    from smidgen.data.filters import language_of

    # Capital letters alone mislead the naive Bayes; which letters they are does not change the language.
    return language_of(text.lower() if text.isupper() else text) == code.partition("-")[0].lower()


def existence(text: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, in any case."""
    return all(_found(keyword, text) for keyword in keywords)


def frequency(text: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """A keyword occurs often enough, or seldom enough."""
    return _holds(len(_found(keyword.strip(), text)), relation, frequency)


def forbidden_words(text: str, *, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs as a whole word."""
    return not any(_found(rf"\b{word}\b", text) for word in forbidden_words)


def letter_frequency(text: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """A letter occurs often enough, or seldom enough."""
    return _holds(text.lower().count(letter.strip().lower()), let_relation, let_frequency)


def response_language(text: str, *, language: str) -> bool:
    """The text is in a language, as the package py3langid tells it."""
    return _in_language(text, language)


def number_sentences(text: str, *, num_sentences: int, relation: str) -> bool:
    """It has enough sentences, or few enough."""
    return _holds(sentences(text), relation, num_sentences)


def number_paragraphs(text: str, *, num_paragraphs: int) -> bool:
    """It has exactly so many paragraphs between lines of three asterisks."""
    parts = _parts(text, r"\s?\*\*\*\s?")
    return parts is not None and len(parts) == num_paragraphs


def number_words(text: str, *, num_words: int, relation: str) -> bool:
    """It has enough words, or few enough."""
    return _holds(len(re.findall(r"\w+", text)), relation, num_words)


def nth_paragraph_first_word(text: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """It has exactly so many paragraphs between blank lines, and one of them begins with a word."""
    pieces = text.split("\n\n")
    count = sum(bool(piece.strip()) for piece in pieces)
    if count != num_paragraphs or nth_paragraph > count or not pieces[nth_paragraph - 1].strip():
        return False
    begin = pieces[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"').lower()
    return re.split(r"[.,?!'\"]", begin)[0] == first_word.lower()


def number_placeholders(text: str, *, num_placeholders: int) -> bool:
    """It has enough words in square brackets."""
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, *, postscript_marker: str) -> bool:
    """It has a postscript that begins with a marker."""
    marker = postscript_marker.strip()
    return bool(_found(_MARKERS.get(marker, re.escape(marker)), text))


def number_bullet_lists(text: str, *, num_bullets: int) -> bool:
    """It has exactly so many points, lines that begin with one asterisk or a dash."""
    # White space before a point may span lines, so that an empty line before it is no point of its own.
    return sum(len(re.findall(mark, text, re.MULTILINE)) for mark in (r"^\s*\*[^*].*$", r"^\s*-.*$")) == num_bullets


def constrained_response(text: str) -> bool:
    """It says one of the three answers allowed."""
    return any(option in text for option in OPTIONS)


def number_highlighted_sections(text: str, *, num_highlights: int) -> bool:
    """It has enough words between single asterisks or double ones."""
    single = [found.strip("*") for found in re.findall(r"\*[^\n*]*\*", text)]
    double = [found[2:-2] for found in re.findall(r"\*\*[^\n*]*\*\*", text)]
    return sum(bool(found.strip()) for found in (*single, *double)) >= num_highlights


def multiple_sections(text: str, *, section_spliter: str, num_sections: int) -> bool:
    """It has enough sections that begin with a word and a number."""
    return len(re.findall(rf"{section_spliter.strip()}\s?\d+", text)) >= num_sections


def json_format(text: str) -> bool:
    """All of it is JSON, with or without a fence around it."""
    bare = re.sub(r"^```(?:json|Json|JSON)?|```$", "", text.strip()).strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    """It has words in double angular brackets."""
    return any(found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str) -> bool:
    """It has two different parts between six asterisks."""
    parts = _parts(text, r"\*{6}")
    return parts is not None and len(parts) == 2 and parts[0] != parts[1]


def repeat_prompt(text: str, *, prompt_to_repeat: str) -> bool:
    """It begins with the request."""
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, *, end_phrase: str) -> bool:
    """It ends with a phrase."""
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_word_frequency(text: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """Enough words are all in capital letters, or few enough."""
    words = re.findall(r"[^\W_]+(?:[-.][^\W_]+)*", text)
    return _holds(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def english_capital(text: str) -> bool:
    """It is English, without small letters."""
    return text.isupper() and _in_language(text, "en")


def english_lowercase(text: str) -> bool:
    """It is English, without capital letters."""
    return text.islower() and _in_language(text, "en")


def no_comma(text: str) -> bool:
    """It has no comma."""
    return "," not in text


def quotation(text: str) -> bool:
    """All of it stands between double quotation marks."""
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _found(pattern: str, text: str) -> list[str]:
    """Return where a keyword, a regular expression as the published rows have them, occurs in any case."""
    return [found[0] for found in re.finditer(pattern, text, re.IGNORECASE)]


_GROUPS: dict[str, tuple[Check, ...]] = {
    "change_case": (capital_word_frequency, english_capital, english_lowercase),
    "combination": (repeat_prompt, two_responses),
    "detectable_content": (number_placeholders, postscript),
    "detectable_format": (
        constrained_response,
        json_format,
        multiple_sections,
        number_bullet_lists,
        number_highlighted_sections,
        title,
    ),
    "keywords": (existence, forbidden_words, frequency, letter_frequency),
    "language": (response_language,),
    "length_constraints": (nth_paragraph_first_word, number_paragraphs, number_sentences, number_words),
    "punctuation": (no_comma,),
    "startend": (end_checker, quotation),
}

CHECKS = {f"{group}:{check.__name__}": check for group, checks in _GROUPS.items() for check in checks}
"""The checks by the names that rows give them."""

TELLING_LANGUAGES = frozenset({response_language, english_capital, english_lowercase})
"""The checks that need the package py3langid."""


def needs(name: str) -> tuple[str, ...]:
    """Return the values that an instruction needs.

    Example:
        >>> needs("keywords:existence")
        ('keywords',)
    """
    return tuple(inspect.signature(CHECKS[name]).parameters)[1:]


def follows(name: str, values: Mapping[str, Any], text: str) -> bool:
    """Say whether a text follows an instruction; an empty one follows none."""
    return bool(text.strip()) and CHECKS[name](text, **{need: values[need] for need in needs(name)})


def loosened(text: str) -> list[str]:
    r"""Return the text as it is and without what models like to add: asterisks, the first line, the last line.

    Example:
        >>> loosened("Sure!\n*Tea*")
        ['Sure!\n*Tea*', '*Tea*', 'Sure!', '', 'Sure!\nTea', 'Tea', 'Sure!', '']
    """
    lines = text.split("\n")
    versions = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*versions, *(version.replace("*", "") for version in versions)]
