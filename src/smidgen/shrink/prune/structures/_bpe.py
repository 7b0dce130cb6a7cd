"""Cuts a BPE tokenizer down to some of its tokens, so that text made of these splits as before.

Byte-level tokenizers spell any text with their 256 single bytes. SentencePiece's spell with characters, and a
character that is no token with its bytes: so characters may go as well, but for the one that stands for a space.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, Unsupported
from smidgen.models.checkpoint import sentencepiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Merges:
    """The tokens of a BPE tokenizer and how merging makes them.

    Args:
        tokenizer: The tokenizer to look into.

    Raises:
        Unsupported: It is of another kind.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        core, decoder = self.spec["model"], self.spec["decoder"] or {}
        self.falls_back = sentencepiece.prefix_of(self.spec) is not None
        byte_level = not core.get("byte_fallback") and decoder.get("type") == "ByteLevel"
        if core["type"] != "BPE" or not (byte_level or self.falls_back):
            raise Unsupported("Only the vocabulary of byte-level and of SentencePiece's BPE tokenizers can be pruned.")
        self.vocabulary: dict[str, int] = core["vocab"]
        merges = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in core["merges"])
        self.pairs: list[tuple[str, str]] = [(left, right) for left, right in merges]
        self.rank = {pair: number for number, pair in enumerate(self.pairs)}

    @cached_property
    def text(self) -> dict[int, str]:
        """The text of every token id, as the tokenizer spells it; added tokens included."""
        texts = {number: token for token, number in self.vocabulary.items()}
        return texts | {added["id"]: added["content"] for added in self.spec["added_tokens"]}

    @cached_property
    def required(self) -> set[int]:
        """Ids that any text may need: added and special tokens, and those of single bytes."""
        unknown, spell = self.spec["model"].get("unk_token"), self._spells
        single = {number for token, number in self.vocabulary.items() if spell(token) or token == unknown}
        return single | {added["id"] for added in self.spec["added_tokens"]}

    def _spells(self, token: str) -> bool:
        if self.falls_back:
            return token == sentencepiece.SPACE or sentencepiece.BYTE_TOKEN.fullmatch(token) is not None
        return len(token) == 1

    @cached_property
    def token_rank(self) -> dict[int, int]:
        """The rank of the first merge that makes a token, by id."""
        ranks: dict[int, int] = {}
        for number, (left, right) in enumerate(self.pairs):
            made = self.vocabulary.get(left + right)
            if made is not None:
                ranks.setdefault(made, number)
        return ranks

    def trace(self, token: str) -> list[str] | None:
        """Return every token that merging passes through on its way to this one; None: it never gets there.

        Merging is local: inside a longer word the same steps lead to the token wherever it is produced. So a set
        of tokens that holds the traces of its members splits text made of them exactly as the whole set did.
        """
        parts, passed = list(token), []
        while len(parts) > 1:
            ranks = [self.rank.get(pair) for pair in pairwise(parts)]
            best = min((rank for rank in ranks if rank is not None), default=None)
            if best is None:
                return None
            left, right = self.pairs[best]
            merged, index = [], 0
            while index < len(parts):
                if parts[index] == left and parts[index + 1 : index + 2] == [right]:
                    merged.append(left + right)
                    index += 2
                else:
                    merged.append(parts[index])
                    index += 1
            passed.append(left + right)
            parts = merged
        return passed

    def needed(self, number: int) -> set[int] | None:
        """Return the ids that must stay for this one to be produced, itself included; None: it never is."""
        if number in self.required:
            return {number}
        token = self.text.get(number)
        if token is None or token not in self.vocabulary:
            return None
        passed = self.trace(token)
        if passed is None:
            # A tokenizer that takes whole words unmerged can still produce it.
            return {number} if self.spec["model"].get("ignore_merges") else None
        return {self.vocabulary[part] for part in (*passed, *token) if part in self.vocabulary} | {number}


def choose_closed(merges: Merges, order: Iterable[int], required: set[int], keep: int, rows: int) -> list[int]:
    """Choose ids in the given order until ``keep`` stay, each together with what leads to it.

    Args:
        merges: The tokenizer.
        order: Ids, most wanted first.
        required: Ids that stay in any case.
        keep: How many ids stay.
        rows: How many ids there are; those that no text can produce fill what is left over.

    Returns:
        Exactly ``keep`` ids in rising order.
    """
    kept = set(required)
    for number in order:
        if len(kept) >= keep:
            break
        if number in kept:
            continue
        needed = merges.needed(number)
        if needed is not None and len(missing := needed - kept) <= keep - len(kept):
            kept |= missing
    spare = (number for number in range(rows) if number not in kept)
    while len(kept) < keep:
        kept.add(next(spare))
    return sorted(kept)


def check_closed(merges: Merges, kept: set[int], required: set[int]) -> None:
    """Refuse a set of ids that would split text made of them differently.

    Raises:
        InvalidInput: Required ids, or ids that lead to others, are missing.
    """
    missing = required - kept
    for number in kept:
        missing |= (merges.needed(number) or set()) - kept
    if missing:
        shown = ", ".join(repr(merges.text.get(number, number)) for number in sorted(missing)[:5])
        raise InvalidInput(
            f"The kept tokens lack {len(missing):,} that they are built from or that every text needs: {shown}.",
            remedy="Let the criterion choose, or add them.",
        )


def rewrite(tokenizer: PreTrainedTokenizerFast, merges: Merges, kept: Sequence[int]) -> PreTrainedTokenizerFast:
    """Build the tokenizer of the kept ids; the new id of a token is its place in ``kept``.

    Args:
        tokenizer: The tokenizer that is cut down, for its template and special tokens.
        merges: The same, taken apart.
        kept: Ids in rising order.

    Raises:
        Unsupported: It adds tokens in a way that cannot be renumbered.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    new = {old: number for number, old in enumerate(kept)}
    spec = dict(merges.spec)
    vocabulary = {token: new[old] for token, old in merges.vocabulary.items() if old in new}
    pairs = [pair for pair in merges.pairs if {pair[0], pair[1], pair[0] + pair[1]} <= vocabulary.keys()]
    spec["model"] = spec["model"] | {"vocab": vocabulary, "merges": pairs}
    spec["added_tokens"] = [added | {"id": new[added["id"]]} for added in spec["added_tokens"]]
    spec["post_processor"] = _renumbered(spec["post_processor"], new)
    core = Tokenizer.from_str(json.dumps(spec))
    expected = vocabulary | {added["content"]: added["id"] for added in spec["added_tokens"]}
    if core.get_vocab(with_added_tokens=True) != expected:
        raise Unsupported("This tokenizer's added tokens cannot be renumbered.")
    extra = getattr(tokenizer, "extra_special_tokens", None)
    result: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        chat_template=tokenizer.chat_template,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        model_input_names=tokenizer.model_input_names,
        **({"extra_special_tokens": extra} if extra else {}),
        **{name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)},
    )
    return result


def _renumbered(processor: dict[str, Any] | None, new: Mapping[int, int]) -> dict[str, Any] | None:
    if processor is None or processor["type"] == "ByteLevel":
        return processor
    if processor["type"] == "Sequence":
        return processor | {"processors": [_renumbered(inner, new) for inner in processor["processors"]]}
    if processor["type"] == "TemplateProcessing":
        tokens = processor["special_tokens"]
        ids = {name: entry | {"ids": [new[old] for old in entry["ids"]]} for name, entry in tokens.items()}
        return processor | {"special_tokens": ids}
    raise Unsupported(f"The tokenizer's post-processor {processor['type']!r} cannot be renumbered.")
