"""What a GGUF calls the kinds of tokens, and the names of rows that have none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from smidgen.errors import InvalidInput, Unsupported

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_STRIPPING_NAMES = ("phi-3", "phi3")
_NEVER_STRIPPING = frozenset({"<unk>", "<s>", "<|endoftext|>"})
_EXPECTED = frozenset({*_NEVER_STRIPPING, "</s>"})


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


def strips_after(name: Any, token: str) -> bool:
    """Whether llama.cpp drops the white space after a special token, by the name of the model in the file.

    A GGUF has no place for this property of tokens; llama.cpp knows it of Phi-3 and goes by ``general.name``.

    Example:
        >>> strips_after("Phi-3.5-mini-instruct", "<|end|>"), strips_after("Phi-3.5-mini-instruct", "<s>")
        (True, False)
    """
    named = isinstance(name, str) and any(part in name.lower() for part in _STRIPPING_NAMES)
    return named and token not in _NEVER_STRIPPING


def name_for_gguf(name: str, spec: Mapping[str, Any]) -> str:
    """Return a model's name, changed where llama.cpp would else treat the space after special tokens otherwise.

    Args:
        name: The name wanted.
        spec: The tokenizer.json.

    Raises:
        Unsupported: Some tokens take the white space after them in, and not those of Phi-3.

    Example:
        >>> name_for_gguf("my-phi3", {"added_tokens": []})
        'my-phi 3'
    """
    added = {token["content"]: bool(token["rstrip"]) for token in spec["added_tokens"]}
    if not any(added.values()):
        return re.sub("(phi)-?(3)", r"\1 \2", name, flags=re.IGNORECASE)
    known = {*added, *spec["model"]["vocab"]}
    if not known >= _EXPECTED or any(strips != (token not in _NEVER_STRIPPING) for token, strips in added.items()):
        raise Unsupported(
            "Some tokens of this tokenizer take in the white space after them, which llama.cpp knows of Phi-3's only.",
            remedy="Ask for safetensors instead.",
        )
    return name if strips_after(name, "</s>") else f"Phi-3 {name}"
