"""What every benchmark is: rows become questions, answers become scores."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from smidgen.data.records import Record

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Question:
    """What a model is asked.

    Attributes:
        prompts: The text before each ending; one text where the model writes the answer.
        endings: Texts whose likelihood is asked for; none where the model writes the answer.
        choices: The endings as the row has them, without what joins them to the prompt; their lengths normalise.
        right: Numbers of the endings that are right.
        references: Right answers, where the model writes.
        worked: The question with its answer, as an example before another question.
        introduction: What stands before the examples.
        group: Questions of one group have the same examples.
        first_part: Count of the endings that belong to the first of two parts, where a question has two.
        message: Whether the prompt is put to the model as a message, in its chat template.
        images: Files of the images that belong to the message.
    """

    prompts: tuple[str, ...]
    endings: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    right: tuple[int, ...] = ()
    references: tuple[str, ...] = ()
    worked: str = ""
    introduction: str = ""
    group: str = ""
    first_part: int = 0
    message: bool = False
    images: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a model answered.

    Attributes:
        likelihoods: ln p of each ending, in nats.
        greedy: Whether the model would have written each ending itself.
        text: What it wrote.
    """

    likelihoods: tuple[float, ...] = ()
    greedy: tuple[bool, ...] = ()
    text: str = ""


class Benchmark(abc.ABC):
    """A task with labels.

    Attributes:
        expects: The fields that a row must have, for messages.
        source: The public file or data set that has such rows, for messages.
        shots: Worked examples before each question unless another number is asked for.
        draws: How the examples are taken: the first ones of the question's group, or drawn anew for every question by
            Python's generator with the seed 1234, as lm-evaluation-harness does it.
        writes: Most tokens that the model may write; 0 where likelihoods are asked for.
        stops: Texts at which what the model writes ends.
        runs_programs: Whether what the model writes is run.
        shows_images: Whether its questions come with images, which rows name within a folder.
        main: The figure that stands for all.
    """

    expects: ClassVar[str]
    source: ClassVar[str]
    shots: ClassVar[int] = 0
    draws: ClassVar[Literal["first", "random"]] = "random"
    writes: ClassVar[int] = 0
    stops: ClassVar[tuple[str, ...]] = ()
    runs_programs: ClassVar[bool] = False
    shows_images: ClassVar[bool] = False
    main: ClassVar[str] = "acc"

    def prepared(self, records: Sequence[Record]) -> Self:
        """Return it with what it must know of the whole file."""
        return self

    def asked(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the rows that are asked of all those of the file."""
        return records

    def shown(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the rows that worked examples are taken from, of all those of their file."""
        return records

    @abc.abstractmethod
    def question(self, record: Record) -> Question:
        """Turn a row into a question.

        Raises:
            InvalidInput: The row lacks a field, or has a value that cannot be; the message has its place.
        """

    @abc.abstractmethod
    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Return the figures of one answer, whose means over all questions are the scores."""

    def summary(self, questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
        """Return figures that are no means over questions."""
        return {}


@dataclass(frozen=True)
class MessageBenchmark(Benchmark):
    """A task whose prompt may also be put to the model as a message.

    Attributes:
        chat: Whether it is, in the model's own chat template.
    """

    chat: bool = False


class ChoiceBenchmark(Benchmark):
    """A task whose answer is the likeliest of given ones.

    ``acc`` takes the likeliest ending, ``acc_norm`` the likeliest per character of the choice and ``acc_bytes`` the
    likeliest per byte of its UTF-8; the first of equal ones.
    """

    normalised: ClassVar[bool] = True

    def score(self, question: Question, answer: Answer) -> dict[str, float]:
        """Say whether the likeliest ending is right."""
        values = answer.likelihoods
        scores = {"acc": float(picked(values) in question.right)}
        if self.normalised:
            for name, lengths in (
                ("acc_norm", [len(choice) for choice in question.choices]),
                ("acc_bytes", [len(choice.encode()) for choice in question.choices]),
            ):
                shares = [value / length for value, length in zip(values, lengths, strict=True)]
                scores[name] = float(picked(shares) in question.right)
        return scores


def picked(values: Sequence[float]) -> int:
    """Return the number of the largest value, the first of equal ones.

    Example:
        >>> picked([-2.0, -1.0, -1.0])
        1
    """
    return max(range(len(values)), key=values.__getitem__)


def multiple_choice(prompt: str, choices: Sequence[str], right: int) -> Question:
    r"""Return the question whose endings are the choices, each behind a space.

    Example:
        >>> asked = multiple_choice("Question: 1 + 1?\nAnswer:", ["1", "2"], 1)
        >>> asked.endings, asked.worked
        ((' 1', ' 2'), 'Question: 1 + 1?\nAnswer: 2')
    """
    return Question(
        prompts=(prompt,) * len(choices),
        endings=tuple(f" {choice}" for choice in choices),
        choices=tuple(choices),
        right=(right,),
        worked=f"{prompt} {choices[right]}",
    )


def right_choice(record: Record, choices: Sequence[str], *names: str) -> int:
    """Return the number of the right choice, which a row gives as the choice itself, a letter, or a number from 0.

    Raises:
        InvalidInput: It is none of these.
    """
    value = record.value(*names)
    if isinstance(value, str):
        word = value.strip()
        if word in choices:
            return list(choices).index(word)
        if len(word) == 1 and word.upper() in LETTERS[: len(choices)]:
            return LETTERS.index(word.upper())
        if not word.lstrip("-").isdigit():
            raise record.error(f"has the answer {word!r}, which is none of its choices: {', '.join(choices)}")
    return record.number(*names, count=len(choices))
