"""A conversation with one model: what was said, and how the next answer is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smidgen.errors import Unsupported
from smidgen.inference.engine import Message
from smidgen.inference.images import marked
from smidgen.inference.options import GenerationOptions, read_option
from smidgen.inference.setup import Setup

if TYPE_CHECKING:
    from smidgen.inference.engine import Chunk, Engine
    from smidgen.models.sources import LocalModel

LOADED_WITH = ("num_ctx", "num_thread", "draft_num_predict")
"""Options for which the model is loaded anew."""

Load = Callable[[GenerationOptions], "Engine"]


class Chat:
    """A conversation with one model. A context manager that gives the model's memory back.

    Args:
        load: Loads the model for given options.
        options: How answers are made.
        system: What the model is to be, instead of what its Modelfile says.
        raw: Continue each text as it stands; nothing that was said before is repeated to the model.
        setup: What the model's Modelfile says.
        local: The model's files.

    Attributes:
        said: The turns so far.
        think: Whether the model shall think, or how hard; None leaves it to the model.
        schema: JSON schema that answers are held to.
        remembers: Whether lines are kept for later conversations.
        keep_alive: Seconds that the model stays in memory between two messages; None for as long as it lasts.
    """

    def __init__(
        self,
        load: Load,
        options: GenerationOptions,
        *,
        system: str | None = None,
        raw: bool = False,
        setup: Setup | None = None,
        local: LocalModel | None = None,
    ) -> None:
        self.options, self.system, self.raw = options, system, raw
        self.setup, self.local = setup or Setup(), local
        self.said: list[Message] = []
        self.think: bool | str | None = None
        self.schema: Mapping[str, Any] | None = None
        self.keep_alive: float | None = None
        self._load = load
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._engine: Engine | None = load(options)

    def answer(self, text: str, images: tuple[bytes, ...] = ()) -> Generator[Chunk, None, None]:
        """Answer; what was said is remembered when the answer ends or is stopped."""
        engine = self._awake()
        asked = Message("user", text, images)
        written: list[str] = []
        try:
            for chunk in self._ask(engine, asked):
                written.append(chunk.text)
                yield chunk
        finally:
            if any(written) and not self.raw:
                self.said += [asked, Message("assistant", "".join(written))]
            self._rest()

    @property
    def sees(self) -> bool:
        """Whether the model reads images, through a projector or by itself."""
        return self.setup.projector is not None or bool(getattr(self._engine, "sees", False))

    def prompt(self, asked: Message, image_mark: str = "") -> str | None:
        """Return the conversation as the text to continue; None where the engine lays it out itself."""
        turns = self.setup.conversation([*self.said, asked], self.system)
        messages = [
            {"role": turn.role, "content": marked(turn.content, len(turn.images), image_mark)} for turn in turns
        ]
        if self.setup.template is not None:
            from smidgen.inference.layout import lay_out

            return lay_out(self.setup.template, messages, think=self.think)
        jinja = self.own_template() if self.think is not None else None
        if jinja is None:
            return None
        from smidgen.inference import chat_template

        # The engine itself puts the token that begins every text before it.
        level = {"reasoning_effort": self.think} if isinstance(self.think, str) else {}
        variables = {"enable_thinking": bool(self.think), "thinking": bool(self.think), **level}
        return chat_template.render(jinja, messages, variables=variables)

    def own_template(self) -> str | None:
        """Return the template, in Jinja, that the model's file brings; None where it has none."""
        if self.local is None or self.local.kind != "gguf":
            return None
        from smidgen.models.checkpoint import gguf

        found = gguf.read(self.local.path).metadata.get("tokenizer.chat_template")
        return found if isinstance(found, str) else None

    def set_option(self, name: str, words: list[str]) -> None:
        """Change one option, loading the model anew where it takes effect only then.

        Raises:
            ReferenceNotFound: There is no such option.
            RecipeError: The value is of the wrong kind or out of range.
        """
        changed = replace(self.options, **{name: read_option(name, words)})
        if name in LOADED_WITH and changed != self.options:
            self._replace(self._load(changed))
        self.options = changed

    def switch(self, other: Chat) -> None:
        """Go on with the model and the turns of another conversation, whose options and texts are its own."""
        self._replace(other._engine)
        self._load, self.options, self.setup, self.local = other._load, other.options, other.setup, other.local
        self.system, self.said = other.system, other.said

    def close(self) -> None:
        """Give the model's memory back."""
        self._replace(None)

    def _ask(self, engine: Engine, asked: Message) -> Generator[Chunk, None, None]:
        if self.schema is not None:
            hold = getattr(engine, "hold_to", None)
            if hold is None:
                raise Unsupported(
                    f"The engine {type(engine).__name__} cannot be held to a format.", remedy="Use llama_cpp."
                )
            hold(self.schema)
        elif hasattr(engine, "hold_to"):
            engine.hold_to(None)
        mark = getattr(engine, "image_mark", "")
        if self.raw:
            text = marked(asked.content, len(asked.images), mark)
            return self._continue(engine, text, [asked])
        prompt = self.prompt(asked, mark)
        if prompt is not None:
            return self._continue(engine, prompt, [*self.said, asked])
        return engine.chat(self.setup.conversation([*self.said, asked], self.system), self.options)

    def _continue(self, engine: Any, text: str, turns: Sequence[Message]) -> Generator[Chunk, None, None]:
        """Continue a text, with the turns' images at their marks."""
        images = [image for turn in turns for image in turn.images]
        answer: Generator[Chunk, None, None] = engine.complete(text, self.options, *([images] if images else []))
        return answer

    def _awake(self) -> Engine:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._engine is None:
                self._engine = self._load(self.options)
            return self._engine

    def _rest(self) -> None:
        """Give the memory back after a while without messages."""
        if self.keep_alive is None:
            return
        with self._lock:
            self._timer = threading.Timer(self.keep_alive, self._replace, [None])
            self._timer.daemon = True
            self._timer.start()

    def _replace(self, engine: Engine | None) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            before, self._engine = self._engine, engine
        if before is not None:
            before.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
