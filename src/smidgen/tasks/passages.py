"""Cutting texts into sentences and into passages that fit a context, and keeping what is written to a length."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smidgen.tasks.task import LanguageModel

_ABBREVIATIONS = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Jr", "Sr", "vs", "e.g", "i.e", "No", "Fig", "approx")
_AFTER_ABBREVIATION = "".join(rf"(?<!\b{re.escape(each)})" for each in _ABBREVIATIONS)
_END = re.compile(rf"(?<!\b[A-Z]){_AFTER_ABBREVIATION}[.!?…][\"'”’)\]]*(?=\s|$)|[。！？]|\n\s*\n")
"""Where a sentence ends: not behind an initial or an abbreviation."""


def sentences(text: str) -> list[str]:
    r"""Cut a text into sentences; what joins them is left out.

    Example:
        >>> sentences("It rains. Dr. Lee said so! Really?\n\nA heading\n\n3.5 mm fell.")
        ['It rains.', 'Dr. Lee said so!', 'Really?', 'A heading', '3.5 mm fell.']
    """
    return [text[begin:end].strip() for begin, end in spans(text)]


def spans(text: str) -> list[tuple[int, int]]:
    """Return where each sentence begins and ends, white space around it left out."""
    found, begin = [], 0
    for end in [*(match.end() for match in _END.finditer(text)), len(text)]:
        piece = text[begin:end]
        if piece.strip():
            left = begin + len(piece) - len(piece.lstrip())
            found.append((left, left + len(piece.strip())))
        begin = end
    return found


def passages(text: str, tokens: int, model: LanguageModel) -> list[str]:
    """Cut a text into passages of whole sentences that have at most so many tokens; only longer sentences are cut.

    Args:
        text: The text.
        tokens: Most tokens of a passage.
        model: Counts them.
    """
    if model.count(text) <= tokens:
        return [text.strip()] if text.strip() else []
    found: list[str] = []
    begin = last = -1
    size = 0
    for left, right in _cut_long(text, tokens, model):
        length = model.count(text[left:right]) + 1
        if begin >= 0 and size + length > tokens:
            found.append(text[begin:last])
            begin, size = -1, 0
        begin = left if begin < 0 else begin
        last, size = right, size + length
    return [*found, text[begin:last]] if begin >= 0 else found


def _cut_long(text: str, tokens: int, model: LanguageModel) -> Iterable[tuple[int, int]]:
    """Yield where sentences lie; those with too many tokens in halves, at a space where there is one."""
    waiting = list(reversed(spans(text)))
    while waiting:
        left, right = waiting.pop()
        if right - left < 2 or model.count(text[left:right]) + 1 <= tokens:
            yield left, right
            continue
        middle = (left + right) // 2
        space = text.rfind(" ", left + 1, middle + 1)
        middle = space if space > left else middle
        waiting += [(middle, right), (left, middle)]


def shortened(text: str, tokens: int, model: LanguageModel) -> str:
    """Return as much of a text's beginning as has at most so many tokens."""
    if len(text.encode()) <= tokens or model.count(text) <= tokens:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if model.count(text[:middle]) <= tokens else (low, middle - 1)
    return text[:low].rstrip()


def word_count(text: str) -> int:
    """Count the words of a text.

    Example:
        >>> word_count("It's three words.")
        3
    """
    return len(text.split())


def within_words(pieces: Iterable[str], words: int) -> Generator[str, None, str]:
    """Let through what is written, whole sentences as long as they keep within a number of words.

    Where not even the first one does, it is cut behind a word, with an ellipsis. What a model leaves unfinished goes.

    Args:
        pieces: What is written.
        words: Most words.

    Returns:
        The text.

    Example:
        >>> list(within_words(["One two. Th", "ree four. Five ", "six."], 4))
        ['One two.', ' Three four.']
    """
    written, kept = "", 0
    for piece in pieces:
        written += piece
        for left, right in spans(written)[:-1]:
            if left >= kept:
                if word_count(written[:right]) > words:
                    return (yield from _ended(written, kept, words))
                yield written[kept:right]
                kept = right
        if word_count(written) > words:
            break
    rest = written[kept:].rstrip()
    if rest and word_count(written) <= words and (not kept or _END.search(rest)):
        yield rest
        return written[:kept] + rest
    return (yield from _ended(written, kept, words))


def _ended(written: str, kept: int, words: int) -> Generator[str, None, str]:
    if kept:
        return written[:kept]
    cut = " ".join(written.split()[:words]).rstrip(",;:-")
    cut += "" if cut.endswith((".", "!", "?", "…")) or not cut else "…"
    yield cut
    return cut


def overlap(words: Sequence[str], others: Sequence[str]) -> float:
    """Return the share of words that stand among others too, 0 where there are none.

    Example:
        >>> overlap(["blue", "sky"], ["the", "sky", "is", "grey"])
        0.5
    """
    return sum(word in set(others) for word in words) / len(words) if words else 0.0


_WORD = re.compile(r"\w+", re.UNICODE)
_COMMON = """
a an and are as at be been but by did do does for from had has have he her his how i if in into is it its me
my no not of on or our she so than that the their them then there they this to was we were what when where
which who whom why will with would you your
"""
STOP_WORDS = frozenset(_COMMON.split())


def content_words(text: str) -> list[str]:
    """Return a text's words in small letters, without those that say nothing.

    Example:
        >>> content_words("The cat sat on the mat.")
        ['cat', 'sat', 'mat']
    """
    return [word for word in (found.lower() for found in _WORD.findall(text)) if word not in STOP_WORDS]
