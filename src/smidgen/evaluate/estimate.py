"""What a model of the catalog is expected to cost on a machine: memory, speed of writing, speed of reading."""

from __future__ import annotations

import math
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

UNPACKING, DELIVERY, BLOCKS = 0.74, 0.20, 0.06
"""Shares of the embedded model's time per token, with one thread: unpacking and multiplying weights, which threads
share out among them; memory's delivery of the bytes, which they have in common; small operations of each block, between
which threads wait for each other. `benchmarks/choose_estimates.py` measures what the three explain."""

UNPACKING_COST = {"float16": 1.35, "q8_0": 1.35, "q4_0": 0.8}
"""What unpacking and multiplying a weight costs beside the embedded model's format, where that was measured: Q4_1 is
multiplied without signs, which Q8_0 needs, 16-bit floats are multiplied as 32-bit ones, and Q4_0 is laid out anew."""

READING_SPEED = {"float16": 1.2, "q8_0": 1.55, "q4_0": 1.7}
"""How many times as fast as the embedded model's format others are read as a prompt, where that was measured: with one
thread 1.18, 1.54 and 1.82, with two 1.20, 1.56 and 1.56."""

MOSTLY_8_BITS = 7.0
"""Bits per weight from which a published file stands mostly in Q8_0, whatever it is called: rows that the blocks of its
format do not divide are kept in others, and the embedding with more bits."""

PROMPT = 64
"""Tokens of the prompt whose reading is estimated, at the end of which the head is computed once."""

REPACKED = frozenset({"q4_0"})
"""Formats that llama.cpp lays out anew when it loads them, beside the file that it maps: their weights count twice."""


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

    Writing a token takes every active weight once: its time is that of the embedded model, whose parts (`UNPACKING`,
    `DELIVERY`, `BLOCKS`) grow with weights, bytes and blocks, and never less than memory needs to deliver weights and
    cache. Of a prompt every token is multiplied with the weights of the blocks, the last one with the head too.

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
    bits = 8 * weights / entry.size
    kind = "q8_0" if own and bits >= MOSTLY_8_BITS else number_format.lower()
    layers = None if architecture is None else architecture.layers
    head = 0 if architecture is None else architecture.vocabulary_size * architecture.hidden_size
    return Estimate(
        format=number_format,
        bits=round(bits, 2),
        weights=weights,
        cache=cache,
        engine=on.memory + vocabulary + (weights if kind in REPACKED else 0),
        tokens_per_second=1 / _token_seconds(kind, read, active, layers, on),
        read_tokens_per_second=1 / _read_seconds(kind, _read_parameters(entry), (head, int(head * bits / 8)), on),
    )


def _read_parameters(entry: catalog.Entry) -> int:
    """Weights that every token of a prompt is multiplied with: no embedding, and no head but for the last token."""
    if entry.architecture is None:
        return entry.size or 0
    return entry.architecture.active_parameters - entry.architecture.vocabulary_size * entry.architecture.hidden_size


def _shares(threads: int) -> tuple[float, float, float]:
    """Return what the embedded model's time per token goes into with so many threads, of `UNPACKING` and the others.

    Example:
        >>> [round(share, 2) for share in _shares(2)]
        [0.54, 0.29, 0.17]
    """
    parts = (UNPACKING / threads, DELIVERY, BLOCKS * (1 + math.log2(threads)))
    unpacking, delivery, blocks = (part / sum(parts) for part in parts)
    return unpacking, delivery, blocks


def _token_seconds(kind: str, read: int, active: int, layers: int | None, on: Calibration) -> float:
    """Return the seconds of writing one token that takes so many weights of a kind and reads so many bytes."""
    floor = read / on.delivered
    if on.token_seconds is None:
        return floor / UNCALIBRATED_SHARE
    embedded = catalog.find(EMBEDDED)
    assert embedded.architecture is not None
    unpacking, delivery, blocks = _shares(on.threads)
    work = UNPACKING_COST.get(kind, 1.0) * active / embedded.architecture.active_parameters
    bytes_ratio = read / embedded.bytes
    depth = 1.0 if layers is None else layers / embedded.architecture.layers
    return max(floor, on.token_seconds * (unpacking * work + delivery * bytes_ratio + blocks * depth))


def _read_seconds(kind: str, parameters: int, head: tuple[int, int], on: Calibration) -> float:
    """Return the seconds of one token of a prompt of `PROMPT` tokens, its share of the head among it."""
    if on.read_seconds is None or on.token_seconds is None:
        return 2 * parameters / (on.flops * UNCALIBRATED_READING)
    embedded = catalog.find(EMBEDDED)
    assert embedded.architecture is not None
    own = embedded.architecture.vocabulary_size * embedded.architecture.hidden_size
    own_head = _token_seconds("", int(embedded.bytes * own / (embedded.size or own)), own, 0, on) / PROMPT
    body = max(0.0, on.read_seconds - own_head) / READING_SPEED.get(kind, 1.0)
    return body * parameters / _read_parameters(embedded) + _token_seconds(kind, head[1], head[0], 0, on) / PROMPT
