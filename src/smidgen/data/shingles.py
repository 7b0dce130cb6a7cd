"""Runs of words, hashed: how two texts are found to share passages."""

from __future__ import annotations

import re
from array import array
from hashlib import blake2b

WORDS_PER_SHINGLE = 13
"""The length that contamination checks of language models use (GPT-3, arXiv 2005.14165, appendix C)."""

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Split into lower-case words without punctuation.

    Example:
        >>> words("It's 3 o'clock.")
        ['it', 's', '3', 'o', 'clock']
    """
    return _WORD.findall(text.lower())


def shingles(text: str, size: int = WORDS_PER_SHINGLE) -> frozenset[int]:
    """Hashes (64 bits, the same in every process) of all runs of ``size`` consecutive words.

    A text of fewer words, yet at least one, has a single shingle: itself.

    Example:
        >>> len(shingles("one two three four", 3)), len(shingles("one", 3)), len(shingles("...", 3))
        (2, 1, 0)
    """
    found = words(text)
    if not found:
        return frozenset()
    runs = (found[start : start + size] for start in range(max(1, len(found) - size + 1)))
    joined = b"".join(blake2b(" ".join(run).encode(), digest_size=8).digest() for run in runs)
    return frozenset(array("Q", joined))
