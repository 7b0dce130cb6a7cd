"""What a model of the catalog is expected to cost on a machine: memory, speed of writing, speed of reading."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from smidgen.evaluate.calibrate import (
    EMBEDDED,
    UNCALIBRATED_READING,
    UNCALIBRATED_SHARE,
    Calibration,
)
from smidgen.inference.footprint import VOCABULARY_BYTES
from smidgen.models import catalog

FORMATS = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K")
"""Number formats that a model may be stored in, the widest first."""

BYTES_SHARE = 0.25
"""Share of the embedded model's time per token that goes with bytes; the rest goes with the count of weights, since
unpacking them takes longest. The same weights as float16, 2.7 times the bytes, were seen to take 1.34 and 1.61 times as
long; `benchmarks/choose_estimates.py` measures it."""

READING_SPEED = {"float16": 1.1, "q8_0": 1.25, "q4_0": 1.7}
"""How many times as fast as the embedded model's format others are read as a prompt, where that was measured:
smollm2:135m 1.23, 1.61 and 1.91 times, gemma3:270m in Q8_0 1.03 times as fast as in Q4_K_M."""

WRITING_SPEED = {"q4_0": 1.2}
"""The same for writing, beyond what the bytes explain."""

REPACKED = frozenset({"q4_0"})
"""Formats that llama.cpp lays out anew when it loads them, beside the file that it maps: their weights count twice."""

READING_LAYER_SHARE = 0.5
"""Share of the embedded model's time per token of a prompt that goes with its count of blocks, not with its weights:
what explains its 6.1 ms and the 4.2 ms of gemma3:270m, one thread each."""


@dataclass(frozen=True)
class Estimate:
    """What is expected.

    Attributes:
        format: Number format of the weights.
        bits: Bits per weight; of a published file those that it has.
        weights: Bytes of the weights.
        cache: Bytes of keys and values at the asked context; None where the architecture is not known.
        engine: Bytes of the engine beyond these, weights that it lays out anew among them.
        tokens_per_second: Writing, at half of the context.
        read_tokens_per_second: Reading a prompt.
    """

    format: str
    bits: float
    weights: int
    cache: int | None
    engine: int
    tokens_per_second: float
    read_tokens_per_second: float

    @property
    def memory(self) -> int:
        """Bytes in all; a cache of unknown size counts nothing."""
        return self.weights + (self.cache or 0) + self.engine

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"memory": self.memory}


def formats_of(entry: catalog.Entry) -> tuple[str, ...]:
    """Return the formats that a model can be had in: those it can be stored in, and its published file's own."""
    published = (entry.dequantised_from,) if entry.packages and entry.dequantised_from else ()
    return (*published, *(name for name in FORMATS if name not in published))


def estimate(entry: catalog.Entry, number_format: str, context: int, on: Calibration) -> Estimate | None:
    """Estimate memory and speed of a model; None where not even its count of weights is known.

    Writing a token takes every active weight once: its time is that of the embedded model, scaled by the count of
    weights and, for `BYTES_SHARE` of it, by bytes, and never less than memory needs to deliver weights and cache.

    Args:
        entry: The model.
        number_format: How its weights are stored, of `formats_of`.
        context: Tokens that the cache holds.
        on: The machine.
    """
    from smidgen import formats

    if entry.size is None:
        return None
    own = entry.packages and number_format == entry.dequantised_from
    weights = entry.bytes if own else int(entry.size * formats.find(number_format).bits_per_weight / 8)
    architecture = entry.architecture
    cache = None if architecture is None else architecture.cache_bytes(context)
    vocabulary = 0 if architecture is None else architecture.vocabulary_size * VOCABULARY_BYTES
    active = entry.size if architecture is None else architecture.active_parameters
    share = min(1.0, active / entry.size)
    read = int(weights * share) + (cache or 0) // 2
    kind = number_format.lower()
    return Estimate(
        format=number_format,
        bits=round(8 * weights / entry.size, 2),
        weights=weights,
        cache=cache,
        engine=on.memory + vocabulary + (weights if kind in REPACKED else 0),
        tokens_per_second=WRITING_SPEED.get(kind, 1.0) / _token_seconds(read, active, on),
        read_tokens_per_second=READING_SPEED.get(kind, 1.0)
        / _read_seconds(_read_parameters(entry), _layers(entry), on),
    )


def _layers(entry: catalog.Entry) -> int | None:
    return entry.architecture.layers if entry.architecture else None


def _read_parameters(entry: catalog.Entry) -> int:
    """Weights that every token of a prompt is multiplied with: no embedding, and no head but for the last token."""
    if entry.architecture is None:
        return entry.size or 0
    return entry.architecture.active_parameters - entry.architecture.vocabulary_size * entry.architecture.hidden_size


def _token_seconds(read: int, active: int, on: Calibration) -> float:
    """Return the seconds of writing one token that takes so many weights and reads so many bytes."""
    floor = read / on.delivered
    if on.token_seconds is None:
        return floor / UNCALIBRATED_SHARE
    embedded = catalog.find(EMBEDDED)
    assert embedded.architecture is not None
    work = active / embedded.architecture.active_parameters
    return max(floor, on.token_seconds * ((1 - BYTES_SHARE) * work + BYTES_SHARE * read / embedded.bytes))


def _read_seconds(parameters: int, layers: int | None, on: Calibration) -> float:
    """Return the seconds of reading one token of a prompt."""
    if on.read_seconds is None:
        return 2 * parameters / (on.flops * UNCALIBRATED_READING)
    embedded = catalog.find(EMBEDDED)
    assert embedded.architecture is not None
    work = parameters / _read_parameters(embedded)
    blocks = work if layers is None else layers / embedded.architecture.layers
    return on.read_seconds * ((1 - READING_LAYER_SHARE) * work + READING_LAYER_SHARE * blocks)
