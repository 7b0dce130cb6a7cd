"""What was changed between two texts, word by word."""

from __future__ import annotations

import difflib
import re
from typing import Any

_PIECE = re.compile(r"\s+|\w+(?:['’]\w+)*|[^\w\s]")


def changes(before: str, after: str) -> list[dict[str, Any]]:
    """Return each change with its place in the text before.

    Example:
        >>> changes("He go home", "He goes home")
        [{'begin': 3, 'end': 5, 'was': 'go', 'is': 'goes'}]
    """
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    places = [0]
    for piece in old:
        places.append(places[-1] + len(piece))
    found = []
    for kind, first, last, begin, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            was, now = "".join(old[first:last]), "".join(new[begin:end])
            found.append({"begin": places[first], "end": places[last], "was": was, "is": now})
    return found


def marked(before: str, after: str) -> str:
    """Return the text before with what went in [- -] and what came in {+ +}, as ``git diff --word-diff`` marks it.

    Example:
        >>> marked("He go home", "He goes home")
        'He [-go-]{+goes+} home'
    """
    shown, place = "", 0
    for change in changes(before, after):
        shown += before[place : change["begin"]]
        shown += f"[-{change['was']}-]" if change["was"] else ""
        shown += f"{{+{change['is']}+}}" if change["is"] else ""
        place = change["end"]
    return shown + before[place:]


def likeness(before: str, after: str) -> float:
    """Return how alike two texts are, 0 to 1: twice the characters in common over those of both.

    Example:
        >>> likeness("abcd", "abce")
        0.75
    """
    return difflib.SequenceMatcher(None, before, after, autojunk=False).ratio()
