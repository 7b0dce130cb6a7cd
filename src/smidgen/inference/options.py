"""What a person can set for one answer, under Ollama's names and with Ollama's defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from smidgen.errors import RecipeError, ReferenceNotFound

_RANGES: dict[str, tuple[float, float]] = {
    "num_keep": (-1, math.inf),
    "num_predict": (-2, math.inf),
    "temperature": (0, math.inf),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "repeat_last_n": (-1, math.inf),
    "repeat_penalty": (0, math.inf),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "num_ctx": (1, math.inf),
    "num_batch": (1, math.inf),
    "num_thread": (0, math.inf),
    "draft_num_predict": (0, math.inf),
}

_KINDS = {"int": "integer", "float": "number", "bool": "boolean", "tuple[str, ...]": "list of strings"}


@dataclass(frozen=True)
class GenerationOptions:
    """How an answer is made.

    The options from ``num_ctx`` on take effect when a model is loaded; the others with every answer.

    Attributes:
        num_keep: Tokens of the prompt that stay when the context overflows; -1 keeps all.
        seed: Seed of the sampling; below 0 another one each time.
        num_predict: Most tokens to generate; below 0 until the model stops or the context is full.
        temperature: 0 always takes the most probable token; higher is more varied.
        top_k: Sample among this many most probable tokens; 0 among all.
        top_p: Sample among the most probable tokens that together reach this probability.
        min_p: Leave out tokens less probable than this share of the most probable one.
        typical_p: Locally typical sampling; 1 switches it off.
        repeat_last_n: How many tokens back repetition is punished; 0 none, -1 the whole context.
        repeat_penalty: Divides the scores of repeated tokens; 1 switches it off.
        presence_penalty: Subtracted from the score of every token that occurred.
        frequency_penalty: Subtracted from a token's score once for each time it occurred.
        stop: Texts at which the answer ends; they are not part of it.
        num_ctx: Tokens that the context holds; the engine's default where None.
        num_batch: Tokens of the prompt that are read at once.
        num_thread: Threads to compute with; 0 takes the physical cores.
        num_gpu: Layers on the GPU; -1 as many as fit.
        main_gpu: Number of the GPU that holds small tensors; the engine's default where None.
        use_mmap: Map the file into memory instead of reading it; the engine's default where None.
        draft_num_predict: Tokens that a draft model guesses ahead, where the model has one; the engine's default
            where None.

    Example:
        >>> GenerationOptions(temperature=0, num_predict=16).top_k
        40
        >>> GenerationOptions(top_p=7)
        Traceback (most recent call last):
        smidgen.errors.RecipeError: Option 'top_p' is 7, expected 0 to 1.
    """

    num_keep: int = 4
    seed: int = -1
    num_predict: int = -1
    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    num_ctx: int | None = None
    num_batch: int = 512
    num_thread: int = 0
    num_gpu: int = -1
    main_gpu: int | None = None
    use_mmap: bool | None = None
    draft_num_predict: int | None = None

    def __post_init__(self) -> None:
        problems = [problem for field in fields(self) if (problem := self._problem(field.name, str(field.type)))]
        if problems:
            raise RecipeError(problems)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> GenerationOptions:
        """Build options from names and values, as they come in a request or from the command line.

        A single text is taken for ``stop`` where a list is expected.

        Raises:
            ReferenceNotFound: An unknown option; the message names the nearest one.
            RecipeError: Values of the wrong type or out of range, all of them together.

        Example:
            >>> GenerationOptions.from_mapping({"temperature": 0, "stop": "User:"}).stop
            ('User:',)
        """
        known = [field.name for field in fields(cls)]
        unknown = next((name for name in values if name not in known), None)
        if unknown is not None:
            raise ReferenceNotFound.among("option", str(unknown), known)
        taken = dict(values)
        stop = taken.get("stop", ())
        taken["stop"] = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else stop
        return cls(**taken)

    def _problem(self, name: str, annotation: str) -> str | None:
        value = getattr(self, name)
        kind = annotation.removesuffix(" | None")
        if value is None and kind != annotation:
            return None
        if not _is_of(value, kind):
            return f"Option {name!r} must be of type {_KINDS[kind]}, not {value!r}."
        low, high = _RANGES.get(name, (-math.inf, math.inf))
        if isinstance(value, (int, float)) and not low <= value <= high:
            wanted = f"at least {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"
            return f"Option {name!r} is {value!r}, expected {wanted}."
        return None


def read_option(name: str, words: Sequence[str]) -> Any:
    """Read an option's value as a person writes it; what cannot be read stays text, so that the check can show it.

    Raises:
        ReferenceNotFound: There is no such option.

    Example:
        >>> read_option("temperature", ["0.5"]), read_option("stop", ["<a>", "<b>"]), read_option("seed", ["7x"])
        (0.5, ('<a>', '<b>'), '7x')
    """
    kinds = {field.name: str(field.type) for field in fields(GenerationOptions)}
    if name not in kinds:
        raise ReferenceNotFound.among("parameter", name, kinds)
    kind = kinds[name]
    if kind.startswith("tuple"):
        return tuple(words)
    text = " ".join(words)
    if kind.startswith("bool"):
        return {"true": True, "false": False}.get(text.lower(), text)
    for reader in (int, float) if kind.startswith("float") else (int,):
        with suppress(ValueError):
            return reader(text)
    return text


def _is_of(value: object, kind: str) -> bool:
    if kind == "tuple[str, ...]":
        return isinstance(value, tuple) and all(isinstance(entry, str) and entry for entry in value)
    if kind == "bool":
        return isinstance(value, bool)
    number = (int, float) if kind == "float" else (int,)
    return isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
