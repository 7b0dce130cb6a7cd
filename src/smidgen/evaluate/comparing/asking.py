"""Every model answers every prompt, in turns, so that a busy moment of the machine does not fall on one alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from smidgen.data.remembering import Notebook
from smidgen.errors import EngineFailed, Interrupted, SmidgenError
from smidgen.evaluate.comparing.contestants import Contestant
from smidgen.evaluate.comparing.prompts import Prompt
from smidgen.inference.engine import Engine, Message
from smidgen.inference.options import GenerationOptions
from smidgen.progress import Event, Progress

if TYPE_CHECKING:
    from smidgen.inference.engine import Chunk


@dataclass(frozen=True)
class Asking:
    """How prompts are put.

    Attributes:
        prompts: What is asked.
        tokens: Most tokens of an answer.
        rounds: How often everything is asked; answers are the same, times are not.
        seed: Seed of the sampling, which temperature 0 leaves nothing to.
        threads: Threads to compute with.
    """

    prompts: tuple[Prompt, ...]
    tokens: int
    rounds: int
    seed: int
    threads: int | None

    @property
    def options(self) -> GenerationOptions:
        """The options of every answer: always the most probable token."""
        return GenerationOptions(temperature=0, seed=self.seed, num_predict=self.tokens, repeat_penalty=1.0)

    def key(self, contestant: Contestant, prompt: Prompt, round_number: int) -> str:
        """Return what an answer is kept under."""
        return json.dumps(["answer", contestant.identity, prompt.text, round_number])


class Panel:
    """The models of a comparison, each loaded once, when it is asked for the first time. A context manager.

    Args:
        threads: Threads to compute with.
        failures: What went wrong with which model, by name; a model that is named there is not asked again.
    """

    def __init__(self, threads: int | None, failures: dict[str, str]) -> None:
        self._threads, self.failures = threads, failures
        self._open: dict[str, tuple[Engine, ExitStack]] = {}
        self.loaded: dict[str, float] = {}

    def engine(self, contestant: Contestant) -> Engine:
        """Return the loaded model."""
        if contestant.name not in self._open:
            stack = ExitStack()
            engine = stack.enter_context(contestant.open(self._threads))
            self._open[contestant.name] = (engine, stack)
            self.loaded[contestant.name] = engine.load_seconds
        return self._open[contestant.name][0]

    def tried(self, contestant: Contestant, work: Callable[[], None]) -> None:
        """Do a model's work; where it fails, remember why and go on with the others."""
        if contestant.name in self.failures:
            return
        try:
            work()
        except Interrupted:
            raise
        except SmidgenError as error:
            self.failures[contestant.name] = str(error)

    def resident_bytes(self, contestant: Contestant) -> int | None:
        """Return the memory that the model's process holds now; None where that is not known or nothing is loaded."""
        held = getattr(self._open[contestant.name][0], "resident_bytes", None) if self.is_open(contestant) else None
        return None if held is None else int(held())

    def is_open(self, contestant: Contestant) -> bool:
        """Say whether it is loaded now."""
        return contestant.name in self._open

    def close(self, contestants: Sequence[Contestant]) -> None:
        """Give the memory of models back."""
        for contestant in contestants:
            if contestant.name in self._open:
                self._open.pop(contestant.name)[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, stack in self._open.values():
            stack.close()
        self._open.clear()


def groups(contestants: Sequence[Contestant], room: int) -> list[list[Contestant]]:
    """Return the models that are loaded at the same time: all of them where they fit together, else one by one.

    Example:
        >>> first, second = Contestant("a", "echo", memory=3), Contestant("b", "echo", memory=4)
        >>> [len(group) for group in groups([first, second], 7)], [len(group) for group in groups([first, second], 6)]
        ([2], [1, 1])
    """
    if sum(contestant.memory for contestant in contestants) <= room:
        return [list(contestants)]
    return [[contestant] for contestant in contestants]


def ask(panel: Panel, group: Sequence[Contestant], asking: Asking, notebook: Notebook, progress: Progress) -> None:
    """Let the models of a group answer everything that no answer is kept of, in turns."""
    jobs = [
        (contestant, prompt, number)
        for number in range(asking.rounds)
        for prompt in asking.prompts
        for contestant in group
    ]
    known = [asking.key(*job) in notebook.known for job in jobs]
    done, total = sum(known), len(jobs)
    progress(Event("asking", done, total, "answers"))
    for job, is_known in zip(jobs, known, strict=True):
        if is_known:
            continue
        contestant, prompt, _ = job

        def answer(contestant: Contestant = contestant, prompt: Prompt = prompt, key: str = asking.key(*job)) -> None:
            notebook.keep(key, _answer(panel.engine(contestant), contestant.chats, prompt, asking.options))

        panel.tried(contestant, answer)
        done += 1
        said = panel.failures.get(contestant.name) or _note(notebook.known.get(asking.key(*job)))
        progress(Event("asking", done, total, "answers", f"{contestant.name}: {said}"[:60]))


def _answer(engine: Engine, chats: bool, prompt: Prompt, options: GenerationOptions) -> dict[str, Any]:
    """Return one answer with what it took, as plain data."""
    asked = engine.chat([Message("user", prompt.text)], options) if chats else engine.complete(prompt.text, options)
    pieces: list[str] = []
    last: Chunk | None = None
    for chunk in asked:
        pieces.append(chunk.text)
        last = chunk
    if last is None or last.metrics is None:
        raise EngineFailed("The engine ended an answer without its last part.")
    took = last.metrics
    return {
        "text": "".join(pieces).strip(),
        "reason": last.reason,
        "prompt_tokens": took.prompt_tokens,
        "tokens": took.generated_tokens,
        "first_seconds": took.prompt_seconds,
        "write_seconds": took.generation_seconds,
    }


def _note(answer: dict[str, Any] | None) -> str:
    if not answer or not answer["write_seconds"]:
        return "answered"
    return f"{answer['tokens'] / answer['write_seconds']:.1f} tok/s"
