"""One model and what it has read, computed by torch: any folder that smidgen reads, packed or not, or a GGUF file.

Has the same interface as `smidgen.inference.llama_library`, so that what measures the one measures the other.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from smidgen.inference import pieces
from smidgen.inference.activations import apply
from smidgen.inference.llama_library import CHUNK, SEQUENCES
from smidgen.models.vision import PLACE, Picture, Shown, embedded, pictures_of, seen

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


class TorchLibrary:
    """One loaded model with one context.

    The matrices of a packed folder stay packed; each is unpacked, slice by slice, where it is used.

    Args:
        path: A folder in the transformers layout or of packed matrices, or a GGUF file, which is dequantised.
        threads: Threads to compute with.
        fast: Hold floats in bfloat16 where the processor multiplies it, instead of in float32.
        depth: Bits at which hierarchical matrices are read; all that they have where None.
        activations: Number format of what every linear layer reads; see `smidgen.inference.activations.apply`.

    Attributes:
        vocabulary_size: Number of tokens that the model knows.
        context: Tokens that it can hold; it is not bounded here.
        sequences: How many sequences may be read at a time.
        together: Tokens of several sequences that are read at a time; all of a tree where None.

    Raises:
        DamagedFile: The model cannot be read.
        Unsupported: Its architecture is not known.
    """

    context = sys.maxsize
    sequences = SEQUENCES
    together: int | None = None

    def __init__(
        self,
        path: str | Path,
        threads: int,
        *,
        fast: bool = False,
        depth: int | None = None,
        activations: str | None = None,
    ) -> None:
        self._threads = threads
        with self._with_threads():
            self.model = read(Path(path), fast=fast, depth=depth)
            if activations is not None:
                apply(self.model, activations)
        self._module = self.model.module
        self.tokenizer = self.model.tokenizer
        self.vocabulary_size: int = self.model.anatomy.vocabulary_size
        self._pictures: list[Picture] = []
        self._seen: torch.Tensor | None = None
        self.clear()
        self._held: tuple[Any, list[int]] = (self._cache, [])

    @property
    def bos_token(self) -> int | None:
        """The token that the model wants at the beginning of every text, None where it wants none."""
        bos: int | None = self.tokenizer.bos_token_id
        return bos if bos is not None and self.tokenizer("").input_ids[:1] == [bos] else None

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes that each token stands for."""
        return pieces.of_tokenizer(self.tokenizer, self.vocabulary_size)

    def tokenize(self, text: bytes, special: bool) -> list[int]:
        """Cut a text into tokens; with ``special``, read special tokens in it and add those around a text."""
        backend = self.tokenizer.backend_tokenizer
        backend.encode_special_tokens = not special
        try:
            ids: list[int] = backend.encode(text.decode(errors="replace"), add_special_tokens=special).ids
        finally:
            backend.encode_special_tokens = False
        return ids

    def detokenize(self, ids: Sequence[int]) -> bytes:
        """Join tokens to a text, special tokens spelled out."""
        return b"".join(self.pieces[token] for token in ids)

    def piece(self, token: int) -> bytes:
        """Return the bytes that one token stands for."""
        return self.pieces[token]

    def session(self) -> TorchLibrary:
        """Return the same model with a context of its own, for an answer that others must not disturb."""
        other = copy.copy(self)
        other.clear()
        return other

    def look(self, turns: Sequence[Shown]) -> list[int]:
        """Take up a conversation; returns it as tokens, with a `PLACE` for what will be seen of each picture.

        Args:
            turns: The conversation.

        Raises:
            InvalidInput: The model knows no such turns.
        """
        vision = self.model.vision
        assert vision is not None
        ids = vision.family.layout(vision, self.tokenizer, turns)
        self._pictures, self._seen = pictures_of(turns), None
        return ids

    def clear(self) -> None:
        """Forget what was read."""
        from transformers import DynamicCache

        self._cache: Any = DynamicCache(config=self._module.config)
        self._looked = self._length = 0

    def rewind(self, position: int) -> bool:
        """Forget what was read from a position on; False where the model cannot, which then is in no usable state."""
        excess = int(self._cache.get_seq_length()) - position
        try:
            if excess:
                self._cache.crop(-excess)
        except (ValueError, RuntimeError):  # a window that slid on has lost what lay before it
            return False
        return bool(self._cache.get_seq_length() == position)

    def shares(self, tokens: int) -> bool:
        """Say whether sequences of so many tokens can share what they begin with: no layer's window slides on."""
        return all(not layer.is_sliding or tokens <= layer.sliding_window for layer in self._cache.layers)

    def hold(self, ids: Sequence[int]) -> None:
        """Come to where these tokens have been read and no others; nothing is read where that is so already."""
        if self._held != (self._cache, list(ids)) or not self.rewind(len(ids)):
            for _ in self.read_all(ids, len(ids)):
                pass
            self._held = (self._cache, list(ids))

    def share(self, count: int) -> None:
        """Let sequences begin with all that `hold` was told last."""
        self.hold(self._held[1])

    def drop(self, count: int) -> None:
        """Forget the sequences."""
        self.rewind(len(self._held[1]))

    def read_shared(
        self, ids: Sequence[int], places: Sequence[int], owners: Sequence[Sequence[int]], wanted: Sequence[bool]
    ) -> NDArray[numpy.float32]:
        """Read a tree of tokens in one pass.

        Args:
            ids: The tokens, each behind those that it follows.
            places: For each how many tokens stand before it in its sequences.
            owners: For each its sequences; a token sees what `hold` was told, itself and what it shares one with.
            wanted: For each whether its logits are wanted.

        Returns:
            Logits, shape (wanted tokens, vocabulary).
        """
        import torch

        with self._with_threads(), torch.inference_mode():
            found = self._module(
                input_ids=torch.tensor([list(ids)]),
                position_ids=torch.tensor([list(places)]),
                attention_mask=_sight(owners, int(self._cache.get_seq_length())),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=torch.tensor(wanted).nonzero()[:, 0],
            )
            logits: NDArray[numpy.float32] = found.logits[0].float().numpy()
        return logits

    def read(self, ids: Sequence[int], position: int, first_row: int) -> NDArray[numpy.float32]:
        """Read up to `CHUNK` tokens after what was read before.

        Args:
            ids: The tokens; `PLACE` stands for what `look` saw, in its order.
            position: Number of tokens read before.
            first_row: Index in ``ids`` of the first token whose logits are wanted.

        Returns:
            Logits, shape (wanted tokens, vocabulary).
        """
        import torch

        rows = max(0, len(ids) - first_row)
        with self._with_threads(), self._as_part(position + len(ids)), torch.inference_mode():
            found = self._module(
                **self._given(ids), past_key_values=self._cache, use_cache=True, logits_to_keep=max(1, rows)
            )
            logits: NDArray[numpy.float32] = found.logits[0, found.logits.shape[1] - rows :].float().numpy()
        return logits

    def _given(self, ids: Sequence[int]) -> dict[str, Any]:
        """Return what the model reads of some tokens, by the name of its argument."""
        import torch

        places = sum(number == PLACE for number in ids)
        if not places:
            return {"input_ids": torch.tensor([ids])}
        if self._seen is None:
            self._seen = seen(self.model, self._pictures)
        first, self._looked = self._looked, self._looked + places
        return {"inputs_embeds": embedded(self.model, ids, self._seen[first : self._looked])}

    def read_all(self, ids: Sequence[int], first_row: int) -> Iterator[NDArray[numpy.float32]]:
        """Forget what was read, then read tokens chunk by chunk, yielding the logits of each chunk."""
        self.clear()
        self._length = len(ids)
        for begin in range(0, len(ids), CHUNK):
            chunk = ids[begin : begin + CHUNK]
            yield self.read(chunk, begin, min(max(0, first_row - begin), len(chunk)))

    def next_row(self, ids: Sequence[int]) -> NDArray[numpy.float32]:
        """Read the last of some tokens, those before it being read; returns its logits, shape (vocabulary,).

        Where the text is now so long that all of it is rotated otherwise, all of it is read again.
        """
        if len(ids) - 1 != self._turning:
            rows = self.read(ids[-1:], len(ids) - 1, 0)
        else:
            *_, rows = self.read_all(ids, len(ids) - 1)
        last: NDArray[numpy.float32] = rows[-1]
        return last

    @cached_property
    def _turning(self) -> int | None:
        return self.model.family.turning_length(self._module.config)

    @contextmanager
    def _as_part(self, end: int) -> Iterator[None]:
        """Rotate tokens up to a position as belongs to the whole text that they are a part of."""
        import torch

        if self._turning is None or not end <= self._turning < self._length:
            yield
            return

        def farther(_: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            places = named["position_ids"]
            last = torch.full_like(places[:, :1], self._length - 1)
            return given, named | {"position_ids": torch.cat([places, last], dim=1)}

        rotary = self._module.get_submodule(self.model.anatomy.rotary)
        hooks = [
            rotary.register_forward_pre_hook(farther, with_kwargs=True),
            rotary.register_forward_hook(lambda _, given, found: tuple(part[:, :-1] for part in found)),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def mean_state(self, ids: Sequence[int]) -> list[float]:
        """Return the mean of the last states of tokens that are read by themselves, shape (hidden,)."""
        import torch

        with self._with_threads(), torch.inference_mode():
            found = self._module.base_model(input_ids=torch.tensor([list(ids)]), use_cache=False)
            values: list[float] = found.last_hidden_state[0].float().mean(dim=0).tolist()
        return values

    @contextmanager
    def _with_threads(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _sight(owners: Sequence[Sequence[int]], before: int) -> torch.Tensor:
    """Return what each token of a tree is not to see, as what is added to its scores, shape (1, 1, n, before + n).

    Args:
        owners: For each token its sequences.
        before: How many tokens stand before the tree, which all see.

    Example:
        >>> (_sight([(1, 2), (1,), (2,)], 1)[0, 0] == 0).int().tolist()
        [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    """
    import torch

    through = torch.zeros(len(owners), 1 + max(max(own) for own in owners))
    for row, own in zip(through, owners, strict=True):
        row[list(own)] = 1
    sees = ((through @ through.T) > 0).tril()
    hidden = torch.zeros(1, 1, len(owners), before + len(owners))
    hidden[0, 0, :, before:].masked_fill_(~sees, torch.finfo(torch.float32).min)
    return hidden


def read(path: Path, *, fast: bool = False, depth: int | None = None) -> Model:
    """Load a model for running it; packed matrices stay packed.

    Args:
        path: A folder or a GGUF file.
        fast: See `TorchLibrary`.
        depth: See `TorchLibrary`.
    """
    import torch
    from transformers.utils import logging

    from smidgen.models import load, packed
    from smidgen.shrink.precision import working_type

    logging.disable_progress_bar()
    if depth is not None:
        path = packed.require_folder(path)
    if packed.is_folder(path):
        return packed.read_folder(path, torch.float32, hold=True, depth=depth)
    dtype: Any = working_type() if fast else torch.float32
    return load.read_folder(path, dtype) if path.is_dir() else load.read_gguf(path, dtype)
