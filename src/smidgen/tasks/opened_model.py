"""A model of this machine as tasks need it: to write, to say how likely answers are, to turn texts into vectors."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from smidgen.errors import InvalidInput, Unsupported
from smidgen.inference.engine import Chunk, Engine, Message, open_engine
from smidgen.inference.options import GenerationOptions
from smidgen.progress import Progress, silent
from smidgen.tasks.layout import Layout, layout_of, told_apart
from smidgen.tasks.task import Manner

if TYPE_CHECKING:
    from smidgen.inference.embedding import Embedder
    from smidgen.inference.scoring import PromptScorer
    from smidgen.models.sources import LocalModel

ECHO = "echo"
"""Stands for the engine that answers from the prompt, for trying programs without a model."""

CONTEXT = 4096
"""Tokens of the context where nobody says; no more than the model was trained for."""


class OpenedModel:
    """A model, each way of running it loaded when it is first needed. A context manager.

    Args:
        model: A name, a made folder, a ``.gguf`` file, or "echo".
        threads: Threads to compute with; the physical cores where None.
        context: Tokens that a prompt and its answer may have together; what the model was trained for, at most
            `CONTEXT`, where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Attributes:
        name: The name it was asked for by.
        context: Tokens of the context.
        facts: What the store knows of the model.

    Raises:
        ReferenceNotFound: There is no such model.
        SourceUnavailable: It could not be delivered.

    Example:
        with OpenedModel("smollm2:135m") as model:
            for text in texts:
                print(smidgen.tasks.sentiment(text, model=model)["label"])
    """

    def __init__(
        self,
        model: str,
        *,
        threads: int | None = None,
        context: int | None = None,
        offline: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.name, self._threads = model, threads
        self.local: LocalModel | None = None
        self.facts: Mapping[str, Any] = {}
        self._path: Path | None = None
        self._layout = Layout()
        trained = None
        if model != ECHO:
            from smidgen.export import runnable
            from smidgen.models.facts import inspect

            self.local = runnable.find(model, offline=offline, progress=progress)
            self.facts = self.local.facts
            self._path = runnable.path_of(self.local, progress=progress)
            self._layout = layout_of(self._path, self.facts)
            trained = inspect(self.local).context_length
        self.context = context or min(CONTEXT, trained or CONTEXT)
        self._stack = ExitStack()
        self._engine: Engine | None = None
        self._scorer: PromptScorer | None = None
        self._embedder: Embedder | None = None

    def write(self, turns: Sequence[Message], manner: Manner) -> Iterator[str]:
        """Answer a conversation, piece by piece.

        Raises:
            InvalidInput: It does not fit the context.
            Unsupported: The model's engine cannot be held to a format.
        """
        if self._path is None:
            return self._pieces(self._writer().chat(turns, self._options(manner, self.context)))
        return self.go_on(self._layout.text(turns) + manner.begun, manner)

    def go_on(self, text: str, manner: Manner) -> Iterator[str]:
        """Continue a text as it stands.

        Raises:
            InvalidInput: It does not fit the context.
        """
        used = self.count(text)
        if used >= self.context:
            raise InvalidInput(
                f"A prompt of {used:,} tokens does not fit a context of {self.context:,}.",
                remedy="Shorten the text, or take a model with a longer context.",
            )
        engine = self._writer()
        self._hold(engine, manner.schema)
        # The engine itself puts the token that begins every text before it.
        prompt = text.removeprefix(self._layout.begins)
        return self._pieces(engine.complete(prompt, self._options(manner, self.context - used)))

    @staticmethod
    def _options(manner: Manner, room: int) -> GenerationOptions:
        return GenerationOptions(
            temperature=manner.temperature,
            seed=manner.seed,
            num_predict=min(manner.tokens, room),
            repeat_penalty=manner.penalty,
            stop=manner.stops,
        )

    @staticmethod
    def _pieces(answer: Generator[Chunk, None, None]) -> Iterator[str]:
        with closing(answer):
            for chunk in answer:
                if chunk.text:
                    yield chunk.text

    def likelihoods(
        self, conversations: Sequence[Sequence[Message]], answers: Sequence[str], *, empty: Sequence[Message]
    ) -> list[list[float]]:
        """Return ln p of each answer to each conversation, in nats; 0 for all with the echo engine."""
        if self._path is None:
            return [[0.0] * len(answers) for _ in conversations]
        if self._scorer is None:
            from smidgen.inference.scoring import PromptScorer, Subject

            depth = None if self.local is None else self.local.depth
            subject = Subject(self._path, depth=depth)
            opened = PromptScorer(subject, threads=self._threads, context=self.context)
            self._scorer = self._stack.enter_context(opened)
        prompts = [self._layout.text(turns) for turns in conversations]
        endings = told_apart(answers, self._layout.ends)
        return self._scorer.likelihoods(prompts, endings, empty=self._layout.text(empty))

    def count(self, text: str) -> int:
        """Count a text's tokens."""
        if self._scorer is not None:
            return len(self._scorer.tokenize(text))
        tokenize = getattr(self._writer(), "tokenize", None)
        return len(tokenize(text)) if tokenize is not None else len(text.encode())

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector for each text.

        Raises:
            Unsupported: The model is no GGUF.
        """
        if self._path is None:
            from smidgen.inference.engines.echo import Echo

            echo = Echo()
            return [echo.embed(echo.tokenize(text)) for text in texts]
        if self._embedder is None:
            from smidgen.inference.embedding import Embedder

            if self._path.is_dir():
                raise Unsupported(f"{self.name} gives no vectors: it is no GGUF.", remedy="Make one: smidgen quantize.")
            opened = Embedder(self._path, threads=self._threads, context=min(512, self.context))
            self._embedder = self._stack.enter_context(opened)
        return self._embedder.vectors(texts)

    def close(self) -> None:
        """Give the model's memory back. May be called again."""
        self._stack.close()
        self._engine = self._scorer = self._embedder = None

    def _writer(self) -> Engine:
        if self._engine is None:
            adapters = (
                () if self._path is None else tuple(self._path.parent / name for name in self.facts.get("adapters", ()))
            )
            depth = None if self.local is None else self.local.depth
            opened = open_engine(
                self._path or ECHO, threads=self._threads, context=self.context, depth=depth, adapters=adapters
            )
            self._engine = self._stack.enter_context(opened)
        return self._engine

    def _hold(self, engine: Engine, schema: Mapping[str, Any] | None) -> None:
        hold = getattr(engine, "hold_to", None)
        if hold is not None:
            hold(schema)
        elif schema is not None and self._path is not None:
            raise Unsupported(f"{self.name} cannot be held to a format.", remedy="Take a GGUF, which llama.cpp runs.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
