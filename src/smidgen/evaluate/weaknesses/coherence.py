"""Long texts whose sentences do not follow from each other."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import Unsupported
from smidgen.evaluate.findings import Finding, share_interval
from smidgen.evaluate.weaknesses._weakness import ENOUGH, Weakness, percent
from smidgen.progress import track

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects

PROMPTS = (
    "Write a story about two friends who repair an old boat.",
    "Write a fairy tale about a clock that runs backwards.",
    "Tell how a small village got its first library, from the idea to the opening day.",
    "Write a travel diary of three days in the mountains.",
    "Describe how a seed becomes a tree, step by step.",
    "Write a speech for a colleague who retires, with two memories.",
)
_LIMIT = 240
_ORDERS = 4  # other orders that each text is held against
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class Coherence(Weakness["list[bool]"]):
    """Six texts of up to 240 tokens: the share whose order a judge finds likelier than four shuffled ones.

    The judge is a model that you name, and it is not asked for an opinion: it foretells the text, and the same
    sentences in other orders. Where sentences follow from each other, the written order is the likeliest, as in the
    test of Barzilay and Lapata 2008 (doi:10.1162/coli.2008.34.1.1); by chance it is in one text of five. Texts of fewer
    than four sentences, and texts that say one sentence again and again, have no order and count as none. The interval
    is Wilson's.
    """

    unit: ClassVar[str] = "share"
    writes: ClassVar[bool] = True
    needs_likelihoods: ClassVar[bool] = False

    def observe(self, model: Examined, subjects: Subjects) -> list[bool]:
        """Let it write, then let the judge read; returns for each text whether its order is the likeliest."""
        from smidgen.evaluate.examine import open_examined
        from smidgen.inference.engine import Message

        if subjects.judge is None:
            raise Unsupported("No judge was named; name a model that shall read its texts with --judge.")
        limit = min(_LIMIT, model.context // 2)
        asked = track(PROMPTS, f"letting {model.name} write at length", model.progress, unit="texts")
        texts = [model.write([Message("user", prompt)], limit)[0] for prompt in asked]
        model.close()
        generator, found = random.Random(subjects.seed), []
        with open_examined(subjects.judge, subjects, model.threads, False, model.progress) as judge:
            if not judge.scores:
                raise Unsupported(
                    f"The judge {judge.name} lies behind a server, which does not say how likely texts are."
                )
            pairs = list(zip(PROMPTS, texts, strict=True))
            for prompt, text in track(pairs, f"reading with {judge.name}", model.progress, unit="texts"):
                orders = orders_of(text, generator)
                bits = [judge.bits_of(f"{prompt}\n\n{' '.join(order)}") for order in orders]
                found.append(len(bits) > 1 and bits[0] < min(bits[1:]))
        return found

    def judge(self, seen: list[bool], source: list[bool] | None) -> Finding:
        """Say how many texts hold together."""
        low, high = share_interval(sum(seen), len(seen))
        share = sum(seen) / len(seen)
        said = (
            f"In {sum(seen)} of {len(seen)} long texts the sentences follow from each other, as the judge reads them."
        )
        if source is not None:
            said += f" Of its source's it is {percent(sum(source) / len(source))}."
        weak, setting = high < ENOUGH, {"tokens": _LIMIT, "orders": _ORDERS}
        return Finding(
            "coherence", share, self.unit, said, low=low, high=high, items=len(seen), weak=weak, setting=setting
        )


def orders_of(text: str, generator: random.Random) -> list[Sequence[str]]:
    """Return the sentences of a text as written, then in other orders; nothing where it has no order.

    Example:
        >>> found = orders_of("One. Two. Three. Four.", random.Random(0))
        >>> len(found), found[0], sorted(found[1]) == sorted(found[0])
        (5, ['One.', 'Two.', 'Three.', 'Four.'], True)
        >>> orders_of("On and on. " * 9, random.Random(0)), orders_of("Short.", random.Random(0))
        ([], [])
    """
    sentences = [each.strip() for each in _SENTENCE.split(text.strip()) if each.strip()]
    if len(set(sentences)) < 4:
        return []
    orders: list[Sequence[str]] = [sentences]
    while len(orders) <= _ORDERS:
        order = generator.sample(sentences, len(sentences))
        if order != sentences:
            orders.append(order)
    return orders
