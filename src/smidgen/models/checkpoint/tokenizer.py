"""Tokenizers: from a GGUF's metadata to a transformers tokenizer and back.

Byte-level BPE tokenizers (SmolLM2, Llama 3, Qwen2, GPT-2) and SentencePiece's BPE (Gemma, Mistral) are covered. Of
the first, a GGUF names how text is split before the merges apply (``tokenizer.ggml.pre``); the table below holds
what each name means. The second lies in `smidgen.models.checkpoint.sentencepiece`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.checkpoint import sentencepiece
from smidgen.models.checkpoint.tokens import (
    CONTROL,
    NORMAL,
    USER_DEFINED,
    is_filler,
    name_for_gguf,
    strips_after,
    table,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

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
        begins: Whether a text begins with the bos token where the file does not say.
    """

    pattern: str | None = None
    single_digits: bool = False
    normalization: str | None = None
    whole_words: bool = False
    begins: bool = False


_SPECIAL = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}

SPLITTINGS = {
    "smollm": Splitting(single_digits=True),
    "gpt-2": Splitting(),
    "llama-bpe": Splitting(_WORDS + r"\p{N}{1,3}" + _REST, whole_words=True, begins=True),
    "qwen2": Splitting(_WORDS + r"\p{N}" + _REST, normalization="NFC"),
}

KNOWN = f"byte-level BPE with {', '.join(SPLITTINGS)}, and SentencePiece's BPE"


def from_gguf(metadata: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Build the tokenizer that a GGUF file describes.

    Args:
        metadata: The file's key-value pairs.

    Raises:
        Unsupported: The tokenizer is neither a byte-level BPE of a known splitting nor SentencePiece's.
        DamagedFile: Tokens or merges are missing or contradict each other.
    """
    from transformers import PreTrainedTokenizerFast

    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    splitting = SPLITTINGS.get(str(pre)) if kind == "gpt2" else None
    if splitting is None and kind != sentencepiece.KIND:
        raise Unsupported(
            f"The GGUF file's tokenizer ({kind!r}, splitting {pre!r}) cannot be rebuilt.",
            remedy=f"Known: {KNOWN}. Take the model's safetensors, or only run it.",
        )
    tokens = _strings(metadata, "tokens")
    types = metadata.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens):
        raise DamagedFile(f"The GGUF file does not give one type to each of its {len(tokens):,} tokens.")
    special = {_SPECIAL[key]: tokens[number] for key, number in special_ids(metadata).items()}
    if splitting is None:
        prefix, scores = bool(metadata.get("tokenizer.ggml.add_space_prefix", True)), _scores(metadata)
        core = sentencepiece.build(
            tokens,
            types,
            scores,
            prefix=prefix,
            unknown=special.get("unk_token"),
            strips=lambda piece: strips_after(metadata.get("general.name"), piece),
        )
    else:
        core = _core(splitting, tokens, types, _strings(metadata, "merges"))
    begin = splitting is None or splitting.begins
    begins = special.get("bos_token") if metadata.get("tokenizer.ggml.add_bos_token", begin) else None
    ends = special.get("eos_token") if metadata.get("tokenizer.ggml.add_eos_token", False) else None
    _surround(core, begins, ends)
    template = metadata.get("tokenizer.chat_template")
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        clean_up_tokenization_spaces=False,
        chat_template=template if isinstance(template, str) else None,
        **special,
    )
    return tokenizer


def _scores(metadata: Mapping[str, Any]) -> list[float]:
    values = metadata.get("tokenizer.ggml.scores")
    if not isinstance(values, list) or not all(isinstance(value, float) and value == value for value in values):
        raise DamagedFile("The GGUF file has no list of tokenizer scores.", remedy="Fetch or convert it again.")
    return values


def special_ids(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of a GGUF's ``bos eos unknown padding`` tokens; ids that are no token are left out.

    Example:
        >>> special_ids({"tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.bos_token_id": 1,
        ...              "tokenizer.ggml.padding_token_id": 4294967295})
        {'bos': 1}
    """
    count = len(_strings(metadata, "tokens"))
    numbers = {key: metadata.get(f"tokenizer.ggml.{key}_token_id") for key in _SPECIAL}
    return {key: number for key, number in numbers.items() if type(number) is int and 0 <= number < count}


def _strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    values = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise DamagedFile(f"The GGUF file has no list of tokenizer {key}.", remedy="Fetch or convert it again.")
    return values


def _core(splitting: Splitting, tokens: list[str], types: list[int], merges: list[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    if len(set(tokens)) < len(tokens):
        raise DamagedFile("The GGUF file names a token twice.", remedy="Fetch or convert it again.")
    # Rows that `to_gguf` named to fill the embedding stand for no token.
    vocabulary = {
        token: number
        for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if not is_filler(token, kind, number)
    }
    pairs = []
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not (left in vocabulary and right in vocabulary and left + right in vocabulary):
            raise DamagedFile(
                f"The GGUF file merges {merge!r}, which is not made of its tokens.", remedy="Fetch or convert it again."
            )
        pairs.append((left, right))
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=splitting.whole_words))
    if splitting.normalization:
        core.normalizer = getattr(normalizers, splitting.normalization)()
    core.pre_tokenizer = _pre_tokenizer(splitting)
    core.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types, strict=True):
        if kind == CONTROL:
            core.add_special_tokens([AddedToken(token, normalized=False, special=True)])
        elif kind == USER_DEFINED:
            core.add_tokens([AddedToken(token, normalized=False)])
    return core


def _pre_tokenizer(splitting: Splitting) -> Any:
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=splitting.pattern is None)
    first: list[Any] = []
    if splitting.single_digits:
        first.append(pre_tokenizers.Digits(individual_digits=True))
    if splitting.pattern:
        first.append(pre_tokenizers.Split(Regex(splitting.pattern), behavior="isolated", invert=False))
    return pre_tokenizers.Sequence([*first, byte_level]) if first else byte_level


def _surround(core: Any, begins: str | None, ends: str | None) -> None:
    """Let every text begin and end with the given tokens."""
    from tokenizers import processors

    if begins or ends:
        around = [token for token in (begins, ends) if token]
        single = [begins, "$A", ends]
        core.post_processor = processors.TemplateProcessing(
            single=[part for part in single if part],
            pair=[part for part in (*single, *single[:1], "$B:1", *single[2:]) if part],
            special_tokens=[(token, core.token_to_id(token)) for token in dict.fromkeys(around)],
        )


def to_gguf(tokenizer: PreTrainedTokenizerFast, rows: int, name: str = "") -> dict[str, Any]:
    """Return the metadata that describes a tokenizer in a GGUF file.

    Args:
        tokenizer: A byte-level BPE tokenizer, or one of SentencePiece's.
        rows: Rows of the embedding; ids without a token are written as unused.
        name: The model's name, which llama.cpp reads as a mark of Phi-3's tokenizer; see `name_for_gguf`.

    Raises:
        Unsupported: llama.cpp has no name for this tokenizer's splitting, or it puts other tokens than bos and
            eos around a text.
        InvalidInput: A token has no row.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    pieces = sentencepiece.prefix_of(spec) is not None
    metadata = sentencepiece.to_gguf(spec, rows) if pieces else _byte_level(spec, rows)
    begins, ends = _surroundings(tokenizer)
    metadata |= {"tokenizer.ggml.add_bos_token": begins, "tokenizer.ggml.add_eos_token": ends}
    metadata["general.name"] = name_for_gguf(name, spec)
    numbers = {key: getattr(tokenizer, f"{attribute}_id") for key, attribute in _SPECIAL.items()}
    metadata |= {f"tokenizer.ggml.{key}_token_id": number for key, number in numbers.items() if number is not None}
    template = tokenizer.chat_template
    template = template.get("default") if isinstance(template, dict) else template
    if template:
        metadata["tokenizer.chat_template"] = template
    return metadata


def _byte_level(spec: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return tokens, types and merges of a byte-level BPE tokenizer."""
    name = _splitting_of(spec)
    if name is None:
        raise Unsupported(
            "This tokenizer's way of splitting text has no known name in GGUF, and a guess would change its tokens.",
            remedy=f"Known: {KNOWN}. Ask for safetensors instead.",
        )
    tokens, types = table(spec, rows)
    merges = spec["model"]["merges"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in merges],
        "tokenizer.ggml.add_space_prefix": False,
    }


def _surroundings(tokenizer: PreTrainedTokenizerFast) -> tuple[bool, bool]:
    """Whether a text begins with the bos and ends with the eos token."""
    plain, whole = (tokenizer("a", add_special_tokens=flag)["input_ids"] for flag in (False, True))
    for begins in (False, True):
        for ends in (False, True):
            if whole == [tokenizer.bos_token_id] * begins + plain + [tokenizer.eos_token_id] * ends:
                return begins, ends
    raise Unsupported(
        "This tokenizer puts tokens around a text that are not its bos and eos, which GGUF cannot say.",
        remedy="Ask for safetensors instead.",
    )


def _splitting_of(spec: Mapping[str, Any]) -> str | None:
    """Return the name of the splitting that a tokenizer.json describes; None where it has none."""
    model = spec["model"]
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    if model["type"] != "BPE" or any(model.get(key) for key in odd):
        return None
    found = (_steps(spec["pre_tokenizer"]), spec["normalizer"], bool(model.get("ignore_merges")))
    for name, splitting in SPLITTINGS.items():
        normalizer = {"type": splitting.normalization} if splitting.normalization else None
        if found == (_steps(_state(_pre_tokenizer(splitting))), normalizer, splitting.whole_words):
            return name
    return None


def _state(part: Any) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(part.__getstate__())
    return state


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """List a pre-tokenizer's steps without what moves offsets only."""
    whole = pre_tokenizer or {}
    return [
        {key: value for key, value in step.items() if key != "trim_offsets"}
        for step in whole.get("pretokenizers", [whole])
    ]
