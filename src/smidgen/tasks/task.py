"""What every task is, and what it needs of a model."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from smidgen.errors import InvalidInput, RecipeError, ReferenceNotFound
from smidgen.inference.engine import Message

Working = Generator[str, None, dict[str, Any]]
"""Pieces of text as they are written; what the generator returns is the result as plain data."""

_KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
_WORDS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class Manner:
    """How something is written.

    Attributes:
        tokens: Most tokens.
        temperature: 0 always takes the likeliest token.
        seed: Of the sampling.
        penalty: Divides the scores of repeated tokens; small models otherwise fall into loops.
        stops: Texts at which the writing ends; they are not part of it.
        schema: A JSON schema that the text must satisfy.
        begun: How the answer begins; it is not repeated.
    """

    tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    penalty: float = 1.0
    stops: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    begun: str = ""


class LanguageModel(Protocol):
    """What tasks need of a model.

    Attributes:
        name: The name it was asked for by.
        context: Tokens that a prompt and its answer may have together.
    """

    name: str
    context: int

    def write(self, turns: Sequence[Message], manner: Manner) -> Iterator[str]:
        """Answer a conversation, piece by piece."""
        ...

    def go_on(self, text: str, manner: Manner) -> Iterator[str]:
        """Continue a text as it stands."""
        ...

    def likelihoods(
        self, conversations: Sequence[Sequence[Message]], answers: Sequence[str], *, empty: Sequence[Message]
    ) -> list[list[float]]:
        """Return ln p of each answer to each conversation, in nats.

        Args:
            conversations: What is asked.
            answers: What may be answered.
            empty: A conversation with nothing in it; how it and all others begin is read once.
        """
        ...

    def count(self, text: str) -> int:
        """Count a text's tokens."""
        ...

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one vector for each text; the nearer two are, the more alike the texts."""
        ...


@dataclass(frozen=True)
class Task(abc.ABC):
    """A ready-made job; a frozen dataclass, whose fields are its options.

    Attributes:
        streams: Whether text is written that is worth watching.
        converses: Whether it goes on from one text to the next.
        row_fields: Options that a row of a batch may bring itself.
        local_fields: Options that reach files or run programs; refused over HTTP.
        defines: Options that a model is made for; asked for otherwise, a specialised model does not serve.
        taught_by: Fields of a row that hold the right answer, for training.
    """

    streams: ClassVar[bool] = True
    converses: ClassVar[bool] = False
    row_fields: ClassVar[tuple[str, ...]] = ()
    local_fields: ClassVar[tuple[str, ...]] = ()
    defines: ClassVar[tuple[str, ...]] = ()
    taught_by: ClassVar[tuple[str, ...]] = ("output", "completion", "answer")

    @abc.abstractmethod
    def run(self, text: str, model: LanguageModel) -> Working:
        """Do the task for one text.

        Raises:
            InvalidInput: The text or an option is not possible.
        """

    @abc.abstractmethod
    def turns(self, text: str) -> list[Message]:
        """Return what the model is asked for a text that fits its context; it is trained on the same."""

    def needs_text(self) -> bool:
        """Say whether there is nothing to do without a text."""
        return True

    def shown(self, result: Mapping[str, Any]) -> str:
        """Return what a person reads of a result besides the text that was written."""
        return ""

    def whole(self, result: Mapping[str, Any]) -> str:
        """Return what a person reads of a result where nothing was shown while it was written."""
        return "\n".join(
            part for part in (str(result.get("text") or "") if self.streams else "", self.shown(result)) if part
        )

    def done(self, text: str, model: LanguageModel) -> dict[str, Any]:
        """Do the task for one text and return its result only."""
        return finished(self.run(text, model))

    def many(self, texts: Sequence[str], model: LanguageModel) -> list[dict[str, Any]]:
        """Do the task for each of several texts."""
        return [self.done(text, model) for text in texts]


def finished(working: Working) -> dict[str, Any]:
    """Take everything that is written and return the result."""
    while True:
        try:
            next(working)
        except StopIteration as end:
            result: dict[str, Any] = end.value
            return result


def said(*turns: tuple[str, str]) -> list[Message]:
    """Return a conversation; turns without words are left out.

    Example:
        >>> [turn.role for turn in said(("system", ""), ("user", "Hi"))]
        ['user']
    """
    return [Message(role, content) for role, content in turns if content]


def require_text(text: str) -> str:
    """Refuse a text without words.

    Raises:
        InvalidInput: There is nothing but white space.
    """
    if not text.strip():
        raise InvalidInput("There is no text.", remedy="Give one as an argument, with --input, or pipe it in.")
    return text.strip()


def require_above(name: str, value: float, least: float) -> None:
    """Refuse an option that is too small.

    Raises:
        InvalidInput: It is.
    """
    if not (math.isfinite(value) and value >= least):
        raise InvalidInput(f"The option {name} is {value}, expected at least {least}.")


def options_of(kind: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """Return a task's fields that a person can set."""
    return {field.name: field for field in dataclasses.fields(kind) if kind_of(field) is not None}


def kind_of(field: dataclasses.Field[Any]) -> str | None:
    """Name what a field holds: ``str``, ``int``, ``float``, ``bool`` or ``list``; None for what no person sets."""
    first = str(field.type).removesuffix(" | None")
    return "list" if first == "tuple[str, ...]" else first if first in _KINDS else None


def checked(kind: type[Any], options: Mapping[str, Any]) -> Any:
    """Make a task of options, each of them checked.

    Raises:
        ReferenceNotFound: It has no such option.
        RecipeError: Values are of the wrong kind.
    """
    known = {field.name: field for field in dataclasses.fields(kind)}
    unknown = next((name for name in options if name not in known), None)
    if unknown is not None:
        raise ReferenceNotFound.among(f"option of the task {kind.__name__.lower()}", unknown, options_of(kind))
    taken, problems = {}, []
    for name, value in options.items():
        taken[name], problem = _read(known[name], value)
        problems += [problem] if problem else []
    if problems:
        raise RecipeError(problems)
    return kind(**taken)


def _read(field: dataclasses.Field[Any], value: Any) -> tuple[Any, str]:
    kind = kind_of(field)
    if kind is None or (value is None and str(field.type).endswith("None")):
        return value, ""
    if kind == "list":
        values = tuple(value) if isinstance(value, list | tuple) else None
        if values is None or not all(isinstance(each, str) for each in values):
            return value, f"The option {field.name} must be a list of texts, not {value!r}."
        return values, ""
    right = isinstance(value, _KINDS[kind]) and isinstance(value, bool) == (kind == "bool")
    return value, "" if right else f"The option {field.name} must be {_WORDS[kind]}, not {value!r}."
