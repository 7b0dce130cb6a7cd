"""What a GGUF calls the kinds of tokens, and the names of rows that have none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smidgen.errors import InvalidInput

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def filler(number: int) -> str:
    """Name an embedding row that has no token."""
    return f"[PAD{number}]"


def is_filler(token: str, kind: int, number: int) -> bool:
    """Whether a row of a file stands for no token."""
    return kind == UNUSED and token == filler(number)


def table(spec: Mapping[str, Any], rows: int) -> tuple[list[str], list[int]]:
    """Return token and type of every row of the embedding.

    Args:
        spec: A tokenizer.json.
        rows: Rows of the embedding.

    Raises:
        InvalidInput: A token has no row.
    """
    numbers = [*spec["model"]["vocab"].values(), *(added["id"] for added in spec["added_tokens"])]
    if max(numbers) >= rows:
        raise InvalidInput(
            f"The tokenizer's token {max(numbers):,} has no row in an embedding of {rows:,}.",
            remedy="Give the model an embedding with a row for every token.",
        )
    tokens, types = [filler(number) for number in range(rows)], [UNUSED] * rows
    for token, number in spec["model"]["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in spec["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    return tokens, types
