"""Things hidden in a long text, and whether a model finds each of them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput, Unsupported
from smidgen.evaluate.findings import Finding, Point, share_interval
from smidgen.evaluate.weaknesses._weakness import ENOUGH, percent
from smidgen.progress import track

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined

SHORTEST = 1024
ASKED = 20
"""Things asked for at each length."""

ANIMALS = (
    *("otter", "badger", "falcon", "lizard", "donkey", "spider", "walrus", "beetle", "rabbit", "turtle"),
    *("camel", "hedgehog", "parrot", "salmon", "panther", "squirrel", "dolphin", "buffalo", "lobster", "pelican"),
)
COLOURS = ("red", "green", "silver", "yellow", "purple", "brown", "white", "black", "orange", "golden")

_CHARACTERS = 4.0  # of a token, where no tokenizer is at hand
_TRIES = 12


@dataclass(frozen=True)
class Task:
    """A long text and what is asked about it.

    Attributes:
        text: The text with everything hidden in it.
        asked: Pairs of a beginning that asks for a thing and the thing itself.
    """

    text: str
    asked: tuple[tuple[str, str], ...]


Recalled = dict[int, list[int]]
"""For each place of a curve, as a length in tokens, 1 for each thing that was right and 0 for the others."""


def lengths(context: int) -> list[int]:
    """Return the lengths to try: 1,024 tokens and doubling, up to the context.

    Example:
        >>> lengths(4096), lengths(3000), lengths(512)
        ([1024, 2048, 4096], [1024, 2048], [512])
    """
    found = [min(SHORTEST, context)]
    while 2 * found[-1] <= context:
        found.append(2 * found[-1])
    return found


def recall(model: Examined, make: Callable[[int], Task], stage: str) -> Recalled:
    """Ask a model for what is hidden in texts of growing length.

    Args:
        model: The model.
        make: Makes a task of about so many characters.
        stage: What progress calls it.

    Raises:
        Unsupported: Its context is too short for a single one.
    """
    found: Recalled = {}
    for length in track(lengths(model.context), f"{stage} with {model.name}", model.progress, unit="lengths"):
        task = _of_length(model, make, length)
        if task is not None:
            found[length] = _by_likelihood(model, task) if model.scores else _by_writing(model, task)
    if not found:
        raise Unsupported(f"Its context of {model.context} tokens is too short to hide anything in.")
    return found


def judge(name: str, seen: Recalled, source: Recalled | None, words: Mapping[str, str]) -> Finding:
    """Say how much is still found at the longest text.

    Args:
        name: The finding's name.
        seen: What the model found.
        source: What its source found.
        words: How to call ``things`` and ``text`` in the sentence.
    """
    points = shares(seen)
    first, last = points[0], points[-1]
    said = f"Of {words['things']} in {last.at:,} tokens of {words['text']} it finds {percent(last.value)} again"
    said += "." if len(points) == 1 else f", in {first.at:,} tokens {percent(first.value)}."
    if source is not None and (before := source.get(int(last.at))):
        said += f" Its source finds {percent(sum(before) / len(before))}."
    return remembered(name, points, "tokens of context", said)


def shares(seen: Recalled) -> tuple[Point, ...]:
    """Return the share of things that were right at each place, with Wilson's interval."""
    return tuple(
        Point(place, sum(right) / len(right), *share_interval(sum(right), len(right)), len(right))
        for place, right in seen.items()
    )


def remembered(name: str, points: tuple[Point, ...], axis: str, said: str) -> Finding:
    """Return the finding of a curve whose last point counts, weak where its interval lies below what is enough."""
    last = points[-1]
    return Finding(
        name,
        last.value,
        "share",
        said,
        low=last.low,
        high=last.high,
        items=last.items,
        weak=last.high is not None and last.high < ENOUGH,
        axis=axis,
        points=points,
    )


def _of_length(model: Examined, make: Callable[[int], Task], length: int) -> Task | None:
    """Make a task that fills a length with its longest question; None where nothing fits."""
    characters = int(length * _CHARACTERS)
    for _ in range(_TRIES):
        try:
            task = make(characters)
        except InvalidInput:  # too short to hide anything
            return None
        taken = _tokens(model, task.text) + max(_tokens(model, f"{ask}{thing}") for ask, thing in task.asked)
        if taken <= length and (taken > 0.9 * length or characters >= length * _CHARACTERS):
            return task
        characters = int(characters * 0.97 * length / taken)
    return None


def _tokens(model: Examined, text: str) -> int:
    return len(model.scorer.prompt_tokens(text)) if model.scores else int(len(text) / _CHARACTERS) + 1


def _by_likelihood(model: Examined, task: Task) -> list[int]:
    """Read the text once and see for each thing whether every token of it is the likeliest one."""
    scorer = model.scorer
    questions = []
    for ask, thing in task.asked:
        prompt = scorer.tokenize(ask)
        questions.append((prompt, [scorer.tokenize(f"{ask}{thing}")[len(prompt) :]]))
    found = scorer.endings(questions, shared=scorer.prompt_tokens(task.text))
    return [int(endings[0].greedy) for endings in found]


def _by_writing(model: Examined, task: Task) -> list[int]:
    """Let the model write each thing after the text."""
    from smidgen.inference.options import GenerationOptions

    options = GenerationOptions(temperature=0, seed=0, num_predict=12, repeat_penalty=1.0)
    found = []
    for ask, thing in task.asked:
        written = "".join(chunk.text for chunk in model.engine.complete(f"{task.text}{ask}", options))
        found.append(int(written.strip().startswith(thing.strip())))
    return found


def spread(count: int, of: int) -> Sequence[int]:
    """Return so many places spread evenly, from the first part to the last.

    Example:
        >>> spread(3, 30)
        [5, 15, 25]
    """
    return [int((place + 0.5) * of / count) for place in range(count)]
