"""Answers that repeat themselves until the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.evaluate.findings import Finding, share_interval
from smidgen.evaluate.weaknesses._weakness import Weakness, percent
from smidgen.progress import track

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects

PROMPTS = (
    "Write a short story about a lighthouse keeper.",
    "Explain how a bicycle works.",
    "List some reasons to learn a second language.",
    "Describe your perfect day.",
    "Write a letter to a friend who moved away.",
    "What should somebody think about before buying a house?",
    "Tell me something about the history of bread.",
    "Give advice to a person who cannot sleep.",
    "Write a poem about the sea.",
    "Explain why leaves change colour in autumn.",
    "Describe how to make a good cup of tea.",
    "What makes a good teacher?",
)
_LIMIT = 160
_TAIL = 60  # characters at least that an answer must end with in repetition
_TIMES = 3
_MUCH = 0.1


@dataclass(frozen=True)
class Repetition(Weakness["list[tuple[str, bool]]"]):
    """Answers to twelve open questions of up to 160 tokens, always the likeliest token: the share that ends in a loop.

    An answer loops where the limit ended it and its last part is one passage over and over, three times at least and
    60 characters at least, letter by letter. A loop once entered is seldom left (Xu et al. 2022, arXiv 2206.02369). No
    penalty for repetition is set, which is how a fault of the model shows; programs that set one hide it. The figure's
    interval is Wilson's.
    """

    unit: ClassVar[str] = "share"
    writes: ClassVar[bool] = True
    needs_likelihoods: ClassVar[bool] = False

    def observe(self, model: Examined, subjects: Subjects) -> list[tuple[str, bool]]:
        """Let it answer; returns each answer, and whether the limit ended it."""
        from smidgen.inference.engine import Message

        limit = min(_LIMIT, model.context // 2)
        asked = track(PROMPTS, f"letting {model.name} write", model.progress, unit="answers")
        return [model.write([Message("user", prompt)], limit) for prompt in asked]

    def judge(self, seen: list[tuple[str, bool]], source: list[tuple[str, bool]] | None) -> Finding:
        """Say how many answers loop."""
        looped = [text for text, cut in seen if cut and loops(text)]
        low, high = share_interval(len(looped), len(seen))
        share = len(looped) / len(seen)
        said = f"{len(looped)} of {len(seen)} answers get caught repeating one passage until the limit."
        if not looped:
            said = f"None of {len(seen)} answers gets caught repeating itself."
        if source is not None:
            said += f" Of its source's it is {percent(sum(cut and loops(text) for text, cut in source) / len(source))}."
        setting = {"tokens": _LIMIT, "example": looped[0][-200:]} if looped else {"tokens": _LIMIT}
        return Finding(
            "repetition",
            share,
            self.unit,
            said,
            low=low,
            high=high,
            items=len(seen),
            weak=low > _MUCH,
            setting=setting,
        )


def loops(text: str) -> bool:
    """Say whether a text's last part is one passage over and over.

    Example:
        >>> loops("So it was. " + "And then we go on. " * 5), loops("And then we go on. Then we stop. " * 2)
        (True, False)
        >>> loops("The list: " + "ab" * 40), loops("The sea is calm today, and the wind is gone." * 1)
        (True, False)
    """
    text = text.rstrip()
    for period in range(1, len(text) // _TIMES + 1):
        length = max(_TAIL, _TIMES * period)
        if length > len(text):
            break
        tail = text[-length:]
        if tail[period:] == tail[:-period]:
            return True
    return False
