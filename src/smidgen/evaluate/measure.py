"""Measures finished models side by side: quality against a source or alone, speed, memory, size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smidgen import formats
from smidgen.errors import InvalidInput, Unsupported
from smidgen.evaluate import room
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.evaluate.memory import Memory
    from smidgen.evaluate.quality import FileQuality, Quality
    from smidgen.evaluate.speed import Speed
    from smidgen.evaluate.windows import Text
    from smidgen.inference.scoring import Subject
    from smidgen.models.facts import Facts
    from smidgen.models.sources import LocalModel

WINDOW_LENGTH = 512


@dataclass(frozen=True)
class Measurement:
    """What was measured of one model.

    Attributes:
        name: The name it was asked for by.
        path: The GGUF or the folder of packed matrices that was measured.
        bytes: Size of that file, or of the folder's.
        parameters: Count of weights.
        bits_per_weight: Bits of all tensors over their weights.
        quality: One entry per text: against the source where one was named and it has the same tokens, else of
            the model alone.
        speed: None where it was not wanted.
        memory: Largest memory of the engine's process.
        notes: What the reader should know.
        activations: Number format that what every linear layer reads was rounded to; None: it was not.
    """

    name: str
    path: Path
    bytes: int
    parameters: int
    bits_per_weight: float
    quality: tuple[Quality | FileQuality, ...]
    speed: Speed | None
    memory: Memory
    notes: tuple[str, ...] = ()
    activations: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        parts = {
            "quality": [each.to_dict() for each in self.quality],
            "speed": self.speed.to_dict() if self.speed else None,
        }
        return asdict(self) | {"path": str(self.path), "memory": self.memory.to_dict()} | parts


def measure(
    *models: str,
    against: str | None = None,
    texts: Sequence[str | Path] = (),
    windows: int = 8,
    speed: bool = True,
    activations: str | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> list[Measurement]:
    """Measure models on this machine, through the engine that users get.

    Args:
        *models: Names, folders or ``.gguf`` files. A folder of packed matrices is run by torch, and its source then
            too, so that nothing but the two models differs; other folders are measured as a GGUF in float16.
        against: The model they were made from: quality is then the divergence from it.
        texts: Data to measure on, as `smidgen.data.loading.load` takes them; the built-in held-out text if none.
        windows: At most so many windows of each text.
        speed: Whether to measure speed as well, which takes longest.
        activations: Number format to which what every linear layer reads is rounded, in torch; without ``against`` each
            model is then compared with itself as it is. See `smidgen.inference.activations.apply`.
        threads: Threads to compute with; the physical cores where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: There is no such model or text.
        InvalidInput: A text is shorter than one window, or no model is named.
        EngineFailed: The engine refuses a file.

    Example:
        (small,) = smidgen.measure("small/model.gguf", against="smollm2:135m")
        print(small.quality[0].kl_mean, small.speed.tg128.median)
    """
    if not models or windows < 1:
        raise InvalidInput(f"Measuring needs a model and at least 1 window, not {len(models)} and {windows}.")
    read = read_texts(texts, offline)
    if activations is not None:
        activations = formats.find(activations).name
    engine = "auto" if activations is None else "torch"
    source = None if against is None else find_facts(against, engine, offline, progress)
    found = [find_facts(model, engine, offline, progress) for model in models]
    for facts in (*found, *([source] if source else [])):
        room.require(facts, context=WINDOW_LENGTH, in_torch=engine == "torch")
    work = _Work(source, read, windows, threads, progress, activations)
    qualities = [work.quality(facts) for facts in found]
    speeds = work.speeds(found) if speed else [None] * len(found)
    return [work.measurement(*each) for each in zip(models, found, qualities, speeds, strict=True)]


def kept_tokens(source: Sequence[str], result: Sequence[str]) -> list[int] | None:
    """Return the source's id of each of the result's tokens, found by the tokens' own text.

    Args:
        source: The source's tokens by id.
        result: The result's.

    Returns:
        None where both have the same tokens at the same ids, or where the source lacks one of them.

    Example:
        >>> kept_tokens(["a", "b", "c"], ["a", "c"]), kept_tokens(["a"], ["a"]), kept_tokens(["a"], ["b"])
        ([0, 2], None, None)
    """
    places = {token: number for number, token in enumerate(source)}
    if list(source) == list(result) or not all(token in places for token in result):
        return None
    return [places[token] for token in result]


class _Work:
    """The source and the texts, and how models are measured with them."""

    def __init__(
        self,
        source: Facts | None,
        texts: list[Text],
        windows: int,
        threads: int | None,
        progress: Progress,
        activations: str | None,
    ) -> None:
        self.source, self.texts, self.windows = source, texts, windows
        self.threads, self.progress, self.activations = threads, progress, activations
        self.notes: dict[str, tuple[str, ...]] = {}

    def quality(self, facts: Facts) -> tuple[Quality | FileQuality, ...]:
        """Measure on every text, against the source where that can be."""
        source = self.source if self.source is not None or self.activations is None else facts
        if source is not None:
            try:
                return tuple(self._compare(source, facts, text) for text in self.texts)
            except Unsupported as error:
                note = f"{error.message} Bits per byte can be compared."
                self.notes[str(facts.path)] = (note,)
        return tuple(self._alone(facts, text) for text in self.texts)

    def _compare(self, source: Facts, facts: Facts, text: Text) -> Quality:
        from smidgen.evaluate.quality import compare_files
        from smidgen.inference.scoring import Subject

        result = self._subject(facts)
        engine: Literal["auto", "torch"] = "torch" if result.in_torch or source.path.is_dir() else "auto"
        return compare_files(
            Subject(source.path, engine, source.depth),
            replace(result, engine=engine),
            text,
            windows=self.windows,
            length=_length(source, facts),
            kept_tokens=kept_tokens(_tokens(source), _tokens(facts)),
            threads=self.threads,
            progress=self.progress,
        )

    def _alone(self, facts: Facts, text: Text) -> FileQuality:
        from smidgen.evaluate.quality import measure_file

        return measure_file(
            self._subject(facts),
            text,
            windows=self.windows,
            length=_length(facts),
            threads=self.threads,
            progress=self.progress,
        )

    def speeds(self, models: Sequence[Facts]) -> list[Speed]:
        """Measure how fast the models are, in turns."""
        from smidgen.evaluate.speed import measure_speeds

        return measure_speeds([self._subject(facts) for facts in models], threads=self.threads, progress=self.progress)

    def measurement(
        self, name: str, facts: Facts, quality: tuple[Quality | FileQuality, ...], speed: Speed | None
    ) -> Measurement:
        """Measure memory and put everything together."""
        from smidgen.evaluate.memory import Memory, measure_memory
        from smidgen.evaluate.speed import PROMPT_TOKENS

        notes = list(self.notes.get(str(facts.path), ()))
        if speed is not None:
            memory = Memory(speed.peak_rss_bytes, PROMPT_TOKENS)
            if speed.noisy:
                notes.append(
                    f"The machine was noisy: runs lay {speed.noise:.0%} of their median apart, so speeds are rough."
                )
        else:
            memory = measure_memory(self._subject(facts), threads=self.threads)
        return Measurement(
            name=name,
            path=facts.path,
            bytes=facts.bytes,
            parameters=facts.parameters,
            bits_per_weight=facts.bits_per_weight,
            quality=quality,
            speed=speed,
            memory=memory,
            notes=tuple(notes),
            activations=self.activations,
        )

    def _subject(self, facts: Facts) -> Subject:
        from smidgen.inference.scoring import Subject

        return Subject(facts.path, depth=facts.depth, activations=self.activations)


def read_texts(texts: Sequence[str | Path], offline: bool) -> list[Text]:
    """Read what models are measured on: the built-in held-out text where no data are named."""
    from smidgen.data import builtin
    from smidgen.data.loading import load
    from smidgen.evaluate.windows import Text

    corpora = [load(text, offline=offline) for text in texts] or [builtin.held_out()]
    return [Text.of(corpus) for corpus in corpora]


def find_facts(model: str, engine: str, offline: bool, progress: Progress) -> Facts:
    """Return the facts of what is run of a model, found by name and made runnable where need be."""
    from smidgen.export import runnable

    return facts_of(runnable.find(model, offline=offline, progress=progress), engine, progress)


def facts_of(local: LocalModel, engine: str, progress: Progress) -> Facts:
    """Return the facts of what is run of a model that is on this machine, made runnable where need be."""
    from smidgen.export import runnable
    from smidgen.models.facts import inspect

    path = runnable.path_of(local, engine=engine, progress=progress)
    if path.is_dir():
        return inspect(local)
    return inspect(replace(local, path=path, kind="gguf", bytes=path.stat().st_size))


def _length(*models: Facts) -> int:
    return min([WINDOW_LENGTH, *(facts.context_length for facts in models if facts.context_length)])


def _tokens(facts: Facts) -> list[str]:
    """Return a model's tokens as text, one for every row of its embedding."""
    from smidgen.models.checkpoint import gguf, safetensors, tokens

    if facts.path.is_dir():
        tokenizer = safetensors.read_tokenizer(facts.path)
        return tokens.table(json.loads(tokenizer.backend_tokenizer.to_str()), facts.vocabulary_size or 0)[0]
    found: list[str] = gguf.read(facts.path).metadata.get("tokenizer.ggml.tokens", [])
    return found
