"""Learn tasks that plain text makes by itself."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.data.chat import Rendered, encode, first_tokens
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.shrink.finetune.objectives import Objective, with_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smidgen.data.rows import Corpus

TASKS = ("fill_in_the_middle", "next_sentence", "span")
MIXED = "mixed"
_MIDDLE_MARKS = (
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<PRE>", "<SUF>", "<MID>"),
)
"""How published tokenizers name the three marks; the first are spelled out where a tokenizer has none."""
_QUESTION = "\nDoes the second passage follow the first? Answer:"
_ANSWERS = {True: " yes", False: " no"}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n{2,}")
_FEWEST = 8
"""Tokens that a passage must have to be asked about."""

_Parts = list[tuple[list[int], bool]]


@dataclass(frozen=True)
class SelfSupervised(Objective):
    """−log softmax(z)[next token] of what was taken out of the text, in nats; documents ``[tokens]``.

    ``fill_in_the_middle``: a passage is cut in three and written prefix, suffix, middle; the middle is learned.
    Source: Bavarian 2022, arXiv 2207.14255, section 3 (there the whole is learned).
    ``span``: short runs are replaced by numbered marks, and the model writes each mark with its run after the text.
    Source: Raffel 2020, arXiv 1910.10683, section 3.1.4, written causally as in UL2, arXiv 2205.05131.
    ``next_sentence``: two passages, half of the pairs neighbours, half from different places; the model says whether
    the second follows, and where it does, it is learned too. Source: Devlin 2019, arXiv 1810.04805, section 3.1.

    For plain text when the model is to be used for editing, completing or judging it, or when there is little text.

    Attributes:
        task: ``fill_in_the_middle``, ``span``, ``next_sentence``, or ``mixed`` for all in turn.
        share: Of a passage's tokens that ``span`` takes out, above 0 and up to 0.5.
        span: Mean tokens of one run.

    Example:
        >>> SelfSupervised(task="span", share=0.2).spans(10, random.Random(0))
        [(6, 8)]
    """

    task: str = MIXED
    share: float = 0.15
    span: int = 3

    def __post_init__(self) -> None:
        if self.task not in (*TASKS, MIXED):
            raise ReferenceNotFound.among("self-supervised task", self.task, (*TASKS, MIXED))
        if not 0 < self.share <= 0.5 or self.span < 1:
            given = f"{self.share} and {self.span}"
            raise InvalidInput(f"Spans need a share above 0 and up to 0.5 and a length of at least 1, not {given}.")

    def documents(
        self, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, *, length: int, seed: int
    ) -> Iterator[Rendered]:
        """Yield one task per passage; only what the text itself answers is a target."""
        passages = [passage for row in corpus.rows for passage in _passages(row.plain, tokenizer, length // 2)]
        tasks = TASKS if self.task == MIXED else (self.task,)
        for number, passage in enumerate(passages):
            chance = random.Random(f"{seed} {number}")
            task = tasks[number % len(tasks)]
            if task == "next_sentence":
                parts = _next_sentence(passage, passages, number, chance, tokenizer)
            elif task == "span":
                parts = self._spans(passage.ids, chance, tokenizer)
            else:
                parts = _middle(passage.ids, chance, tokenizer)
            document = _joined(parts, tokenizer)
            if len(document.ids) <= length and any(document.supervised):
                yield document

    def spans(self, tokens: int, chance: random.Random) -> list[tuple[int, int]]:
        """Draw the runs to take out of a passage, half-open, apart from each other and in order."""
        wanted = max(1, round(self.share * tokens))
        lengths = []
        while wanted > 0:
            lengths.append(min(wanted, max(1, round(chance.expovariate(1 / self.span)))))
            wanted -= lengths[-1]
        gaps = sorted(chance.sample(range(tokens - sum(lengths) + 1), min(len(lengths), tokens - sum(lengths) + 1)))
        starts = [gap + sum(lengths[:number]) for number, gap in enumerate(gaps)]
        return [(start, start + lengths[number]) for number, start in enumerate(starts)]

    def _spans(self, ids: list[int], chance: random.Random, tokenizer: PreTrainedTokenizerFast) -> _Parts:
        before: _Parts = []
        after: _Parts = []
        at = 0
        for number, (start, stop) in enumerate(self.spans(len(ids), chance)):
            mark = _mark(tokenizer, f"<extra_id_{number}>")
            before += [(ids[at:start], False), (mark, False)]
            after += [(mark, False), (ids[start:stop], True)]
            at = stop
        return [*before, (ids[at:], False), *after]


@dataclass(frozen=True)
class _Passage:
    """Some sentences: their tokens, and those of the two halves they are divided in."""

    ids: list[int]
    first: list[int]
    second: list[int]


def _passages(text: str, tokenizer: PreTrainedTokenizerFast, most: int) -> Iterator[_Passage]:
    """Join sentences into passages of at most ``most`` tokens; a sentence that is longer is cut."""
    sentences: list[list[int]] = []
    size = 0
    for words in filter(str.strip, _SENTENCE_END.split(text)):
        ids = encode(tokenizer, words if not sentences else f" {words}")[:most]
        if sentences and size + len(ids) > most:
            yield from _passage(sentences)
            sentences, size, ids = [], 0, encode(tokenizer, words)[:most]
        sentences.append(ids)
        size += len(ids)
    yield from _passage(sentences)


def _passage(sentences: Sequence[list[int]]) -> Iterator[_Passage]:
    whole = [token for sentence in sentences for token in sentence]
    half = sum(len(sentence) for sentence in sentences[: (len(sentences) + 1) // 2])
    if len(whole) >= _FEWEST:
        yield _Passage(whole, whole[:half], whole[half:])


def _middle(ids: list[int], chance: random.Random, tokenizer: PreTrainedTokenizerFast) -> _Parts:
    start, stop = sorted(chance.sample(range(len(ids) + 1), 2))
    known = tokenizer.get_vocab()
    names = next((marks for marks in _MIDDLE_MARKS if all(mark in known for mark in marks)), _MIDDLE_MARKS[0])
    prefix, suffix, middle = (_mark(tokenizer, name) for name in names)
    return [
        (prefix + ids[:start] + suffix + ids[stop:] + middle, False),
        (ids[start:stop], True),
    ]


def _next_sentence(
    passage: _Passage,
    passages: Sequence[_Passage],
    number: int,
    chance: random.Random,
    tokenizer: PreTrainedTokenizerFast,
) -> _Parts:
    others = [place for place in (chance.randrange(len(passages)) for _ in range(8)) if abs(place - number) > 1]
    other = next((passages[place].second for place in others if passages[place].second), None)
    follows = other is None or chance.random() < 0.5
    second = passage.second if follows else other or []
    if not second:
        return []
    ask = encode(tokenizer, "\n"), encode(tokenizer, _QUESTION)
    answer = encode(tokenizer, _ANSWERS[follows])
    return [(passage.first, False), (ask[0], False), (second, follows), (ask[1], False), (answer, True)]


def _mark(tokenizer: PreTrainedTokenizerFast, name: str) -> list[int]:
    known = tokenizer.get_vocab()
    return [known[name]] if name in known else encode(tokenizer, name)


def _joined(parts: _Parts, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """Join the parts, the begin-of-text token before and the end-of-text token after them."""
    begin = first_tokens(tokenizer)
    ids = [*begin, *(token for part, _ in parts for token in part)]
    targets = [False] * len(begin) + [learned for part, learned in parts for _ in part]
    closed = with_end(tokenizer, ids)
    targets = [False, *targets[1:], *[True] * (len(closed) - len(ids))]
    return Rendered(closed, targets if any(targets[: len(ids)]) else [False] * len(closed))
