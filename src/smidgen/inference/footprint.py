"""How much memory a model takes in llama.cpp, foretold from its file's header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORKSPACE = 80_000_000
"""Bytes that an engine's process takes beside weights and context."""


VOCABULARY_BYTES = 720
"""Bytes that it takes for each token it knows, mostly room for logits: smollm2:135m (49,152 tokens) takes 113 MB beside
its file and context, gemma3:270m (262,144) 269 MB, in a process of their own on Linux."""


HELD_AGAIN = 0.55
"""Share of a file that llama.cpp may hold a second time, in the order its loops read: smollm2:135m in mixed formats of
4 and 5 bits took 0.51 of its file more than the rest accounts for."""


def beside_the_file(metadata: Mapping[str, Any], vocabulary: int, context: int) -> int:
    """Return the bytes that running a model takes beside its file: keys and values, room for logits, the process.

    Args:
        metadata: The file's key-value pairs.
        vocabulary: Tokens it knows.
        context: Tokens that its context holds.
    """
    return WORKSPACE + VOCABULARY_BYTES * vocabulary + context * cache_bytes_per_token(metadata)


def cache_bytes_per_token(metadata: Mapping[str, Any]) -> int:
    """Return what one token's keys and values take in 16 bits, in all layers; 0 where the file does not say.

    Example:
        >>> header = {"block_count": 30, "embedding_length": 576, "attention.head_count": 9}
        >>> header["attention.head_count_kv"] = 3
        >>> named = {f"llama.{name}": value for name, value in header.items()}
        >>> cache_bytes_per_token({"general.architecture": "llama"} | named)
        23040
    """
    architecture = metadata.get("general.architecture")

    def number(name: str) -> int:
        value = metadata.get(f"{architecture}.{name}", 0)
        return max(value, default=0) if isinstance(value, list) else int(value)

    heads = number("attention.head_count")
    width = number("embedding_length") // heads if heads else 0
    keys = number("attention.key_length") or width
    values = number("attention.value_length") or width
    return 2 * number("block_count") * (number("attention.head_count_kv") or heads) * (keys + values)
