"""Tokenizers: from a GGUF's metadata to a transformers tokenizer and back.

Byte-level BPE tokenizers (SmolLM2, Llama 3, Qwen2, GPT-2) are covered. A GGUF names how text is split before
the merges apply (``tokenizer.ggml.pre``); the table below holds what each name means.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, Unsupported

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Splitting:
    """How text is split into pieces before merging.

    Attributes:
        pattern: Regular expression of a piece; None stands for GPT-2's own.
        single_digits: Whether every digit is a piece of its own before that.
        normalization: Unicode normalisation form applied first.
        whole_words: Whether a piece that is a token as a whole is taken without merging.
    """

    pattern: str | None = None
    single_digits: bool = False
    normalization: str | None = None
    whole_words: bool = False


SPLITTINGS = {
    "smollm": Splitting(single_digits=True),
    "gpt-2": Splitting(),
    "llama-bpe": Splitting(_WORDS + r"\p{N}{1,3}" + _REST, whole_words=True),
    "qwen2": Splitting(_WORDS + r"\p{N}" + _REST, normalization="NFC"),
}


def from_gguf(metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Build the tokenizer that a GGUF file describes.

    Args:
        metadata: The file's key-value pairs.

    Raises:
        Unsupported: The tokenizer is not a byte-level BPE, or its splitting is not known.
        DamagedFile: Tokens or merges are missing.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or pre not in SPLITTINGS:
        raise Unsupported(
            f"The GGUF file's tokenizer ({kind!r}, splitting {pre!r}) cannot be rebuilt.",
            remedy=f"Known: byte-level BPE with {', '.join(SPLITTINGS)}. Take the model's safetensors, or only run it.",
        )
    missing = [key for key in ("tokens", "merges") if f"tokenizer.ggml.{key}" not in metadata]
    if missing:
        raise DamagedFile(f"The GGUF file has no tokenizer {' and '.join(missing)}.", remedy="Convert it again.")
    tokens, splitting = metadata["tokenizer.ggml.tokens"], SPLITTINGS[pre]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=splitting.whole_words))
    if splitting.normalization:
        core.normalizer = getattr(normalizers, splitting.normalization)()
    core.pre_tokenizer = _pre_tokenizer(splitting)
    core.decoder = decoders.ByteLevel()
    types = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    for number, token_type in enumerate(types):
        if token_type in (CONTROL, USER_DEFINED):
            added = AddedToken(tokens[number], normalized=False, special=token_type == CONTROL)
            (core.add_special_tokens if token_type == CONTROL else core.add_tokens)([added])
    special = _special_tokens(metadata, tokens)
    if metadata.get("tokenizer.ggml.add_bos_token") and "bos_token" in special:
        _prepend(core, special["bos_token"])
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        clean_up_tokenization_spaces=False,
        chat_template=metadata.get("tokenizer.chat_template"),
        **special,
    )
    return tokenizer


def _pre_tokenizer(splitting: Splitting) -> Any:
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.pattern is None)
    first: list[Any] = []
    if splitting.single_digits:
        first.append(pre_tokenizers.Digits(individual_digits=True))
    if splitting.pattern:
        first.append(pre_tokenizers.Split(Regex(splitting.pattern), behavior="isolated", invert=False))
    return pre_tokenizers.Sequence([*first, byte_level]) if first else byte_level


def _special_tokens(metadata: Mapping[str, Any], tokens: list[str]) -> dict[str, str]:
    keys = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    numbers = {name: metadata.get(f"tokenizer.ggml.{key}_token_id") for key, name in keys.items()}
    return {name: tokens[number] for name, number in numbers.items() if number is not None and number < len(tokens)}


def _prepend(core: Any, token: str) -> None:
    from tokenizers import processors

    core.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, core.token_to_id(token))]
    )


def to_gguf(tokenizer: PreTrainedTokenizerFast, rows: int) -> dict[str, Any]:
    """Return the metadata that describes a tokenizer in a GGUF file.

    Args:
        tokenizer: A byte-level BPE tokenizer.
        rows: Rows of the embedding; ids without a token are written as unused.

    Raises:
        Unsupported: llama.cpp has no name for this tokenizer's splitting.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    splitting = _splitting_of(spec)
    name = next((name for name, known in SPLITTINGS.items() if known == splitting), None)
    if spec["model"]["type"] != "BPE" or name is None:
        raise Unsupported(
            "This tokenizer's way of splitting text has no known name in GGUF, and a guess would change its tokens.",
            remedy=f"Known: byte-level BPE with {', '.join(SPLITTINGS)}. Ask for safetensors instead.",
        )
    tokens = [f"[PAD{number}]" for number in range(rows)]
    types = [UNUSED] * rows
    for token, number in spec["model"]["vocab"].items():
        tokens[number], types[number] = token, NORMAL
    for added in spec["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], CONTROL if added["special"] else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in spec["model"]["merges"]]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id],
        "tokenizer.ggml.add_space_prefix": False,
    }
    keys = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id}
    keys |= {"unknown": tokenizer.unk_token_id, "padding": tokenizer.pad_token_id}
    metadata |= {f"tokenizer.ggml.{key}_token_id": number for key, number in keys.items() if number is not None}
    if tokenizer.chat_template:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template
    return metadata


def _splitting_of(spec: Mapping[str, Any]) -> Splitting | None:
    """Read a tokenizer.json's pre-tokenizer back into a `Splitting`; None where it is of another kind."""
    steps = spec["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or not set(kinds) <= {"ByteLevel", "Digits", "Split"}:
        return None
    pattern = next((step["pattern"].get("Regex") for step in steps if step["type"] == "Split"), None)
    digits = any(step["type"] == "Digits" and step["individual_digits"] for step in steps)
    normalizer = (spec["normalizer"] or {}).get("type")
    return Splitting(pattern, digits, normalizer, bool(spec["model"].get("ignore_merges")))
