"""What every inference engine does, and how one is opened."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, runtime_checkable

from smidgen import registry
from smidgen.errors import InvalidInput, Unsupported
from smidgen.inference.options import GenerationOptions
from smidgen.inference.remote_address import is_address
from smidgen.inference.speculation import SpeculationRequest

ENGINES = "smidgen.inference.engines"
"""The folder of the engines, for `smidgen.registry`."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: "system", "user" or "assistant".
        content: What was said.
        images: Images that belong to it, as `smidgen.inference.images.plain` gives them.
    """

    role: str
    content: str
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Metrics:
    """What an answer took.

    Attributes:
        prompt_tokens: Tokens of the prompt, with those that the engine still remembered.
        generated_tokens: Tokens of the answer.
        prompt_seconds: Time to read the prompt.
        generation_seconds: Time to write the answer.
        load_seconds: Time that loading the model took when the engine was opened.
        drafted_tokens: Tokens that were guessed ahead.
        accepted_tokens: Guessed tokens that the model would have written itself, and that so became part of the answer.
    """

    prompt_tokens: int
    generated_tokens: int
    prompt_seconds: float
    generation_seconds: float
    load_seconds: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer.

    Attributes:
        text: Whole characters, possibly none.
        done: Whether it is the last piece.
        reason: On the last piece, "stop" where the model or a stop text ended the answer, "length" where the
            limit or the context did.
        metrics: On the last piece, what the answer took.
        stop_text: On the last piece, the stop text that ended the answer; empty where none did, or nobody says.
    """

    text: str
    done: bool = False
    reason: Literal["stop", "length"] | None = None
    metrics: Metrics | None = None
    stop_text: str = ""


@dataclass(frozen=True)
class Demands:
    """What an answer must be, beside its options; at most one of the first two is given.

    Attributes:
        schema: A JSON schema, as `smidgen.inference.structured.schema_of` gives it; None for free text.
        grammar: A grammar in llama.cpp's GBNF notation; None for free text.
        biases: Token number to what is added to its score.
        marks: Special tokens that are to be part of the text.
    """

    schema: Mapping[str, Any] | None = None
    grammar: str | None = None
    biases: Mapping[int, float] = field(default_factory=dict)
    marks: tuple[str, ...] = ()


FREE = Demands()
"""Nothing is demanded."""


@runtime_checkable
class Engine(Protocol):
    """A loaded model that answers. A context manager.

    An engine's class takes ``(path, *, threads=None, context=None)``; the path may be an address. Closing an answer's
    generator before its end cancels the generation. Errors of the request show when the first chunk is taken.
    """

    load_seconds: float

    def chat(self, messages: Sequence[Message], options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Answer a conversation, laid out with the model's own chat template."""
        ...

    def complete(self, prompt: str, options: GenerationOptions) -> Generator[Chunk, None, None]:
        """Continue a text as it stands."""
        ...

    def close(self) -> None:
        """Give the model's memory back. May be called again."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class TextEngine(Engine, Protocol):
    """An engine that continues texts which others lay out, as a server of models does for all of them alike."""

    def write(
        self, prompt: str | Sequence[int], options: GenerationOptions, demands: Demands = FREE
    ) -> Generator[Chunk, None, None]:
        """Continue a text, or its tokens, as demanded.

        What the model wants at the beginning of every text is put there, unless the text has it.
        """
        ...

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into tokens, special ones read as such, with those that stand before every text."""
        ...

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Join tokens to a text."""
        ...


def open_engine(
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    threads: int | None = None,
    context: int | None = None,
    depth: int | None = None,
    type_k: str | None = None,
    type_v: str | None = None,
    adapters: Sequence[Path] = (),
    projector: Path | None = None,
    speculation: SpeculationRequest | None = None,
) -> Engine:
    """Load a model into an engine.

    Args:
        name_or_path: A .gguf file, a folder, a model's name in the store or the catalog (fetched where it is not
            here yet), the address of a model behind a server (``http://host:11434/llama3.2``), or "echo" for the
            engine that answers from the prompt.
        engine: The engine's name; "auto" takes llama.cpp for GGUF files, torch for folders and remote for addresses.
        threads: Threads to compute with; the physical cores where None.
        context: Tokens that the context holds; the engine's default where None.
        depth: Bits at which a model stored hierarchically is read, as the name ``small@4bit`` asks for too.
        type_k: Number type of the keys that llama.cpp's context keeps, such as "q8_0"; float16 where None.
        type_v: The same of the values.
        adapters: LoRA files in GGUF that are put on the model; for llama.cpp.
        projector: A GGUF that turns images into what the model reads; for llama.cpp.
        speculation: How tokens may be guessed ahead, where the engine can; not at all where None.

    Raises:
        ReferenceNotFound: No such model or engine.
        Unsupported: The engine cannot run models of this kind.
        EngineFailed: The engine refuses the model.

    Example:
        >>> with open_engine("echo") as opened:
        ...     print("".join(chunk.text for chunk in opened.complete("Good day.", GenerationOptions())))
        Good day.
    """
    for option, value in (("threads", threads), ("context", context)):
        if value is not None and value < 1:
            raise InvalidInput(f"The option {option} is {value}, expected at least 1.")
    is_echo = str(name_or_path) == "echo"
    found = None if engine == "auto" else registry.find(ENGINES, engine)
    path: Path | str | None = None
    if is_address(name_or_path):
        path, named, taken = str(name_or_path), None, "remote"
    elif is_echo:
        named, taken = None, "echo"
    else:
        path, named = _local_path(name_or_path)
        taken = "torch" if path.is_dir() else "llama_cpp"
    depth = depth or named
    found = found or registry.find(ENGINES, taken)
    wanted: dict[str, object] = {"depth": depth, "type_k": type_k, "type_v": type_v, "projector": projector}
    wanted |= {"adapters": tuple(adapters) or None, "speculation": speculation}
    if speculation is not None and speculation.mode in ("auto", "off") and not _has_option(found, "speculation"):
        wanted["speculation"] = None
    more = {name: value for name, value in wanted.items() if value is not None}
    _require_known(found, more, name_or_path)
    opened: Engine = found(path, threads=threads, context=context, **more)
    return opened


def _has_option(engine: type, name: str) -> bool:
    return name in inspect.signature(engine).parameters


def _require_known(engine: type, options: Mapping[str, object], model: str | Path) -> None:
    """Refuse options that an engine does not have."""
    known = inspect.signature(engine).parameters
    if "depth" in options and "depth" not in known:
        raise Unsupported(
            f"{model} is not stored hierarchically, so that it cannot be read at {options['depth']} bits.",
            remedy="Store it so first: smidgen quantize --format hierarchical.",
        )
    foreign = next((name for name in options if name not in known), None)
    if foreign is not None:
        raise Unsupported(
            f"The engine {engine.__name__} has no option {foreign}.",
            remedy="llama.cpp has, which runs GGUF files: the engine llama_cpp.",
        )


def _local_path(name_or_path: str | Path) -> tuple[Path, int | None]:
    """Return the file or folder that a path or a model's name stands for, and the bits that the name asks for."""
    path = Path(name_or_path)
    if path.is_file() or (path / "config.json").is_file():
        return path, None
    from smidgen.models.reference import parse
    from smidgen.models.sources import fetch
    from smidgen.models.store import Store

    store = Store()
    found = fetch(parse(str(name_or_path), store), store)
    return found.path, found.depth
