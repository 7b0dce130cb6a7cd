"""Tokens: rows of the embedding and the head, with the tokenizer rewritten."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.shrink.prune.structures import Structure
from smidgen.shrink.prune.structures._bpe import Merges, check_closed, choose_closed, rewrite
from smidgen.shrink.prune.structures._rebuild import copied_state, packed_without, rebuild

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model

MULTIPLE = 256
TOKEN_SETTINGS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
)
"""Entries of configurations that hold token ids, alone or in lists."""


@dataclass(frozen=True)
class Vocabulary(Structure):
    """Tokens: ``keep`` says how many stay.

    Rows of the embedding and the head go, often the largest share of a small model, and every other weight
    stays. Kept are all special and byte tokens, and with every token those that merging passes through on its
    way to it, so that text made of kept tokens splits exactly as before and any other text still encodes, into
    more tokens. The count is a multiple of 256. Choose by the use of tokens in a broad corpus.
    """

    unit: ClassVar[str] = "tokens"
    criterion: ClassVar[str] = "use"
    iterative: ClassVar[bool] = False

    def size(self, anatomy: Anatomy) -> int:
        """Count the rows of the embedding."""
        return anatomy.vocabulary_size

    def step(self, anatomy: Anatomy) -> int:
        """Return 256."""
        return MULTIPLE

    def least(self, model: Model) -> int:
        """Count the special and byte tokens, rounded up to a multiple of 256."""
        return -(-len(_required(model, Merges(model.tokenizer))) // MULTIPLE) * MULTIPLE

    def select(self, model: Model, scores: torch.Tensor, keep: int) -> torch.Tensor:
        """Choose the tokens of the highest scores with all that leads to them; equal scores by merge rank."""
        import torch

        merges = Merges(model.tokenizer)
        values, rank = scores.tolist(), merges.token_rank
        order = sorted(
            filter(range(len(values)).__contains__, merges.text),
            key=lambda number: (-values[number], rank.get(number, len(rank)), number),
        )
        kept = choose_closed(merges, order, _required(model, merges), keep, len(values))
        return torch.tensor(kept, dtype=torch.long)

    def check(self, model: Model, kept: torch.Tensor) -> None:
        """Refuse a list that lacks special tokens, byte tokens or tokens that lead to others."""
        merges = Merges(model.tokenizer)
        check_closed(merges, set(kept.tolist()), _required(model, merges))

    def remove(self, model: Model, kept: torch.Tensor) -> Model:
        """Build a model of these tokens; int64 ``[keep]``, rising. A token's new id is its place in the list."""
        numbers = tuple(kept.tolist())
        new = {old: number for number, old in enumerate(numbers)}
        anatomy, state = model.anatomy, copied_state(model)
        names = [f"{anatomy.embedding}.weight"]
        names += [] if anatomy.tied else [f"{anatomy.head}.weight"]
        names += [name] if (name := f"{anatomy.head}.bias") in state else []
        for name in names:
            state[name] = state[name].index_select(0, kept.to(model.device))
        if anatomy.tied:
            state[f"{anatomy.head}.weight"] = state[names[0]]
        config = copy.deepcopy(model.config)
        config.vocab_size = len(numbers)
        _renumber(config, new)
        module = rebuild(model, config, state)
        _renumber(module.generation_config, new)
        return replace(
            model,
            module=module,
            tokenizer=rewrite(model.tokenizer, Merges(model.tokenizer), numbers),
            lineage=model.lineage.without_tokens(numbers),
            packed=packed_without(model, [f"{anatomy.embedding}.weight", f"{anatomy.head}.weight"]),
        )

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the rows that go, of one matrix where embedding and head are tied, else of both."""
        anatomy = model.anatomy
        going, bias = anatomy.vocabulary_size - keep, model.module.get_submodule(anatomy.head).bias
        return going * (anatomy.hidden_size * (1 if anatomy.tied else 2) + (bias is not None))


def _required(model: Model, merges: Merges) -> set[int]:
    """Return the ids that stay in any case, those that the configurations name included."""
    named: set[int] = set()
    for settings in (model.config, model.module.generation_config):
        for name in TOKEN_SETTINGS:
            named.update(_flat(getattr(settings, name, None)))
    return merges.required | {number for number in named if 0 <= number < model.anatomy.vocabulary_size}


def _flat(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _flat(inner)


def _renumber(settings: Any, new: Mapping[int, int]) -> None:
    """Change the token ids of a configuration in place."""

    def changed(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [changed(inner) for inner in value]
        return new.get(value)

    for name in TOKEN_SETTINGS:
        value = getattr(settings, name, None)
        if value is not None:
            setattr(settings, name, changed(value))
