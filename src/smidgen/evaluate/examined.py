"""A model while its weaknesses are looked for: loaded at most once at a time, as what the next question needs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy

from smidgen.evaluate.benchmarks._benchmark import Question
from smidgen.progress import Progress, silent, track

if TYPE_CHECKING:
    from smidgen.evaluate.skills import SkillQuestion
    from smidgen.evaluate.windows import Text
    from smidgen.inference.engine import Engine, Message
    from smidgen.inference.scoring import PromptScorer, Subject

_TOGETHER = 32  # questions scored at a time


@dataclass(frozen=True)
class Subjects:
    """What all models are examined with.

    Attributes:
        text: Text of the domain that the model is for; neither calibration nor training has seen it.
        trained_on: Text that it was trained or calibrated on; None where nobody says.
        windows: At most so many windows of each text.
        longest: Most tokens of context that are tried.
        seed: Of everything drawn.
        judge: A model that reads what they write; None where nobody names one.
    """

    text: Text
    trained_on: Text | None = None
    windows: int = 8
    longest: int = 4096
    seed: int = 0
    judge: str | None = None


class Examined:
    """One model, opened as a scorer of likelihoods or as an engine that writes, whichever was asked for last.

    Args:
        name: What reports call it.
        subject: How it is run for scoring; None for a model behind a server, which gives no likelihoods.
        reference: What the engine opens: a file, a folder or the address of a model behind a server.
        context: Tokens that it can hold, as published; None where that is not known.
        chats: Whether it brings a chat template.
        threads: Threads to compute with; the physical cores where None.
        longest: Most tokens of context that it is opened with.
        progress: Receives reports.
    """

    def __init__(
        self,
        name: str,
        subject: Subject | None,
        *,
        reference: str | Path,
        context: int | None,
        chats: bool,
        threads: int | None = None,
        longest: int = 4096,
        progress: Progress = silent,
    ) -> None:
        self.name, self.chats, self.progress, self.threads = name, chats, progress, threads
        self.context = min(context or longest, longest)
        self._subject, self._reference = subject, reference
        self._stack = ExitStack()
        self._scorer: PromptScorer | None = None
        self._engine: Engine | None = None

    @property
    def scores(self) -> bool:
        """Whether it can be asked for likelihoods."""
        return self._subject is not None

    @property
    def scorer(self) -> PromptScorer:
        """The model as a scorer."""
        if self._scorer is None:
            from smidgen.inference.scoring import PromptScorer

            assert self._subject is not None
            self.close()
            opened = PromptScorer(self._subject, threads=self.threads, context=self.context)
            self._scorer = self._stack.enter_context(opened)
        return self._scorer

    @property
    def engine(self) -> Engine:
        """The model as users get it."""
        if self._engine is None:
            from smidgen.inference.engine import open_engine

            self.close()
            depth = None if self._subject is None else self._subject.depth
            opened = open_engine(self._reference, threads=self.threads, context=self.context, depth=depth)
            self._engine = self._stack.enter_context(opened)
        return self._engine

    def write(self, messages: Sequence[Message], tokens: int) -> tuple[str, bool]:
        """Let it answer a conversation, always with the likeliest token.

        A model without a chat template continues the conversation written out as ``User:`` and ``Assistant:``.

        Returns:
            The answer, and whether the limit ended it.
        """
        from smidgen.inference.options import GenerationOptions

        stop = () if self.chats else ("\nUser:",)
        options = GenerationOptions(temperature=0, seed=0, num_predict=tokens, repeat_penalty=1.0, stop=stop)
        if self.chats:
            answer = self.engine.chat(messages, options)
        else:
            told = "".join(f"{each.role.capitalize()}: {each.content}\n" for each in messages)
            answer = self.engine.complete(f"{told}Assistant:", options)
        chunks = list(answer)
        return "".join(chunk.text for chunk in chunks), bool(chunks) and chunks[-1].reason == "length"

    def right(self, questions: Sequence[SkillQuestion], stage: str) -> list[int]:
        """Return for each question 1 where the right ending is the likeliest, else 0."""
        from smidgen.evaluate.answering import Likelihoods

        asking, found = Likelihoods(self.scorer), []
        groups = [questions[begin : begin + _TOGETHER] for begin in range(0, len(questions), _TOGETHER)]
        for group in track(groups, f"{stage} with {self.name}", self.progress, unit="groups"):
            asked = [Question((each.prompt,) * len(each.endings), each.endings) for each in group]
            for question, answer in zip(group, asking.answer("", asked), strict=True):
                best = max(range(len(answer.likelihoods)), key=lambda place: answer.likelihoods[place])
                found.append(int(best == question.right))
        return found

    def bits_per_byte(self, text: Text, windows: int) -> list[float]:
        """Return the bits per byte of each window of a text, the second half of the window counting."""
        from smidgen.evaluate.windows import cut

        length = min(512, self.context)
        read = cut(self.scorer, text, self.scorer.pieces(), length=length, count=windows)
        return [
            self._bits(window.ids, window.first) / window.scored_bytes
            for window in track(read, f"measuring {self.name} on {text.name}", self.progress, unit="windows")
        ]

    def bits_per_byte_of(self, passage: str) -> float:
        """Return the bits per byte of a short text, what its first quarter of tokens says counting as context only."""
        plain = self.scorer.tokenize(passage)[: self.context - 1]
        first = len(plain) // 4
        begin = [] if self.scorer.bos_token is None else [self.scorer.bos_token]
        pieces = self.scorer.pieces()
        size = sum(len(pieces[token]) for token in plain[first + 1 :])
        return self._bits([*begin, *plain], first + len(begin)) / size

    def bits_of(self, text: str) -> float:
        """Return the bits that a text takes, what does not fit the context left out."""
        return self._bits(self.scorer.prompt_tokens(text)[: self.context], 0)

    def _bits(self, ids: Sequence[int], first: int) -> float:
        return -float(self.scorer.next_token_logprobs(ids, start=first).sum(dtype=numpy.float64)) / float(numpy.log(2))

    def close(self) -> None:
        """Give the memory back. It is opened again when it is asked for."""
        self._scorer = self._engine = None
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
