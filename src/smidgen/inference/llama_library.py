"""llama.cpp's C API, as far as scoring needs it, from the library that the package xllamacpp brings.

The two parameter structures are taken as opaque blobs with the library's own defaults; of one, only the first
four fields are changed, after checking that they hold llama.cpp's documented defaults, and the switch that lets several
sequences share what was read, which is found among its neighbours and held against what the library then says. Used in
a child process only: the library ends the process when it fails.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_uint32, c_void_p
from typing import Any

import numpy
from numpy.typing import NDArray

CHUNK = 512
"""Tokens that one call of the library reads (its batch and its micro-batch)."""

SEQUENCES = 128
"""Sequences that may share a context where the model's memory can be shared."""

_TOGETHER = 60
"""Tokens of several sequences that are read at a time.

From 64 on llama.cpp computes attention in another order, and a token's values would depend on what is read with
it; below, a question's answer has the same bits in any company. More would not be faster: 32 fill the processor.
"""

_DEFAULTS = (512, 2048, 512, 1)  # n_ctx, n_batch, n_ubatch, n_seq_max
_SWITCHES = bytes((0, 1, 1, 1, 1, 0))  # embeddings, offload_kqv, no_perf, op_offload, swa_full, kv_unified
_ERROR = 4


class _Parameters(ctypes.Structure):
    """Room for either parameter structure, larger than both."""

    _fields_ = (("words", ctypes.c_uint64 * 128),)


class _Batch(ctypes.Structure):
    """The structure ``llama_batch``."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)

_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_LogCallback, c_void_p]),
    "llama_model_default_params": (_Parameters, []),
    "llama_context_default_params": (_Parameters, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, _Parameters]),
    "llama_init_from_model": (c_void_p, [c_void_p, _Parameters]),
    "llama_free": (None, [c_void_p]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_n_batch": (c_uint32, [c_void_p]),
    "llama_n_ubatch": (c_uint32, [c_void_p]),
    "llama_n_seq_max": (c_uint32, [c_void_p]),
    "llama_n_ctx_seq": (c_uint32, [c_void_p]),
    "llama_model_is_recurrent": (c_bool, [c_void_p]),
    "llama_model_is_hybrid": (c_bool, [c_void_p]),
    "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
    "llama_batch_init": (_Batch, [c_int32, c_int32, c_int32]),
    "llama_decode": (c_int32, [c_void_p, _Batch]),
    "llama_synchronize": (None, [c_void_p]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_memory_seq_rm": (c_bool, [c_void_p, c_int32, c_int32, c_int32]),
    "llama_memory_seq_cp": (None, [c_void_p, c_int32, c_int32, c_int32, c_int32]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_detokenize": (c_int32, [c_void_p, POINTER(c_int32), c_int32, c_char_p, c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
}


class LibraryError(Exception):
    """The library refused, or is not as this module expects it."""


class LlamaLibrary:
    """One loaded model with one context.

    Args:
        path: The GGUF file.
        threads: Threads to compute with.
        context: Tokens that the context must hold.

    Attributes:
        vocabulary_size: Number of tokens that the model knows.
        context: Tokens that the context holds.
        sequences: How many sequences may be read at a time; 1 where the model's memory cannot be shared.
        together: Tokens of several sequences that are read at a time.

    Raises:
        LibraryError: The library refuses the file or has another interface.
    """

    together: int | None = _TOGETHER

    def __init__(self, path: str, threads: int, context: int) -> None:
        self._first_error = ""
        self._library = _open_library()
        self._log = _LogCallback(self._keep_error)
        self._library.llama_log_set(self._log, None)
        self._library.llama_backend_init()
        parameters = self._library.llama_model_default_params()
        self._model = self._library.llama_model_load_from_file(os.fsencode(path), parameters)
        if not self._model:
            raise LibraryError(self._first_error or "llama.cpp cannot load the file")
        self.context = max(CHUNK, -(-context // 256) * 256)
        self.sequences, self._context = self._open_context(self.context)
        self._held: list[int] | None = None
        self._library.llama_set_n_threads(self._context, threads, threads)
        self._vocabulary = self._library.llama_model_get_vocab(self._model)
        self.vocabulary_size = int(self._library.llama_vocab_n_tokens(self._vocabulary))
        self._batch = self._library.llama_batch_init(CHUNK, 0, self.sequences)

    @property
    def bos_token(self) -> int | None:
        """The token that the model wants at the beginning of every text, None where it wants none."""
        wanted = self._library.llama_vocab_get_add_bos(self._vocabulary)
        return int(self._library.llama_vocab_bos(self._vocabulary)) if wanted else None

    def tokenize(self, text: bytes, special: bool) -> list[int]:
        """Cut a text into tokens; with ``special``, read special tokens in it and add those around a text."""
        size = len(text) + 8
        room = (c_int32 * size)()
        count = self._library.llama_tokenize(self._vocabulary, text, len(text), room, size, special, special)
        if count < 0:
            raise LibraryError("llama.cpp cannot tokenize the text")
        return list(room[:count])

    def detokenize(self, ids: Sequence[int]) -> bytes:
        """Join tokens to a text, special tokens spelled out."""
        tokens = (c_int32 * len(ids))(*ids)
        size = 64 + 16 * len(ids)
        while True:
            room = ctypes.create_string_buffer(size)
            count = self._library.llama_detokenize(self._vocabulary, tokens, len(ids), room, size, False, True)
            if count >= 0:
                return room.raw[:count]
            size = -count

    def piece(self, token: int) -> bytes:
        """Return the bytes that one token stands for."""
        size = 128
        while True:
            room = ctypes.create_string_buffer(size)
            count = self._library.llama_token_to_piece(self._vocabulary, token, room, size, 0, True)
            if count >= 0:
                return room.raw[:count]
            size = -count

    def clear(self) -> None:
        """Forget what was read."""
        self._held = None
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def hold(self, ids: Sequence[int]) -> None:
        """Bring sequence 0 to where it has read these tokens and no others; nothing is read where it has already."""
        if self._held != list(ids):
            for _ in self.read_all(ids, len(ids)):
                pass
            self._held = list(ids)

    def rewind(self, position: int) -> bool:
        """Forget what was read from a position on; False where the model cannot, which then is in no usable state."""
        memory = self._library.llama_get_memory(self._context)
        return bool(self._library.llama_memory_seq_rm(memory, 0, position, -1))

    def read(self, ids: Sequence[int], position: int, first_row: int) -> NDArray[numpy.float32]:
        """Read up to `CHUNK` tokens after what was read before.

        Args:
            ids: The tokens.
            position: Number of tokens read before.
            first_row: Index in ``ids`` of the first token whose logits are wanted.

        Returns:
            Logits, shape (wanted tokens, vocabulary). They lie in the library's memory until the next call.
        """
        self._held = None
        places = [position + index for index in range(len(ids))]
        return self.read_shared(ids, places, ((0,),) * len(ids), [index >= first_row for index in range(len(ids))])

    def shares(self, tokens: int) -> bool:
        """Say whether sequences of so many tokens can share what they begin with."""
        return self.sequences > 1

    def share(self, count: int) -> None:
        """Let the sequences 1 to ``count`` begin with all that sequence 0 has read, and nothing else."""
        memory = self._library.llama_get_memory(self._context)
        for sequence in range(1, count + 1):
            self._library.llama_memory_seq_rm(memory, sequence, -1, -1)
            self._library.llama_memory_seq_cp(memory, 0, sequence, -1, -1)

    def drop(self, count: int) -> None:
        """Forget the sequences 1 to ``count``."""
        memory = self._library.llama_get_memory(self._context)
        for sequence in range(1, count + 1):
            self._library.llama_memory_seq_rm(memory, sequence, -1, -1)

    def read_shared(
        self, ids: Sequence[int], places: Sequence[int], owners: Sequence[Sequence[int]], wanted: Sequence[bool]
    ) -> NDArray[numpy.float32]:
        """Read up to `CHUNK` tokens of several sequences at once.

        Args:
            ids: The tokens.
            places: For each how many tokens stand before it in its sequences.
            owners: For each its sequences, from 1 on; a token that several begin alike with is read once for all.
            wanted: For each whether its logits are wanted.

        Returns:
            Logits, shape (wanted tokens, vocabulary). They lie in the library's memory until the next call.
        """
        batch = self._batch
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index] = token
            batch.pos[index] = places[index]
            batch.logits[index] = wanted[index]
            batch.n_seq_id[index] = len(owners[index])
            room = batch.seq_id[index]
            for number, sequence in enumerate(owners[index]):
                room[number] = sequence
        self._first_error = ""
        status = self._library.llama_decode(self._context, batch)
        if status != 0:
            raise LibraryError(self._first_error or f"llama_decode answered {status}")
        self._library.llama_synchronize(self._context)
        rows = sum(wanted)
        if not rows:
            return numpy.empty((0, self.vocabulary_size), numpy.float32)
        pointer = self._library.llama_get_logits(self._context)
        return numpy.ctypeslib.as_array(pointer, shape=(rows, self.vocabulary_size))

    def read_all(self, ids: Sequence[int], first_row: int) -> Iterator[NDArray[numpy.float32]]:
        """Forget what was read, then read tokens chunk by chunk, yielding the logits of each chunk."""
        self.clear()
        for begin in range(0, len(ids), CHUNK):
            chunk = ids[begin : begin + CHUNK]
            yield self.read(chunk, begin, min(max(0, first_row - begin), len(chunk)))

    def close(self) -> None:
        """Free the model's memory."""
        self._library.llama_free(self._context)
        self._library.llama_model_free(self._model)

    def _open_context(self, size: int) -> tuple[int, int]:
        """Open a context that as many sequences share as can; return their number and the context."""
        apart = self._library.llama_model_is_recurrent(self._model) or self._library.llama_model_is_hybrid(self._model)
        if not apart:
            context = self._made_context(size, SEQUENCES)
            if context is not None:
                return SEQUENCES, context
        context = self._made_context(size, 1)
        if context is None:
            raise LibraryError(self._first_error or "llama.cpp cannot make a context")
        return 1, context

    def _made_context(self, size: int, sequences: int) -> int | None:
        """Make a context; None where the library makes none that several sequences share."""
        self._first_error = ""
        parameters = self._library.llama_context_default_params()
        fields = ctypes.cast(ctypes.byref(parameters), POINTER(c_uint32))
        if tuple(fields[:4]) != _DEFAULTS:
            raise LibraryError(f"its default parameters begin with {fields[:4]}, expected {list(_DEFAULTS)}")
        fields[0], fields[1], fields[2], fields[3] = wanted = (size, CHUNK, CHUNK, sequences)
        if sequences > 1:
            place = bytes(parameters).find(_SWITCHES)
            if place < 0:
                return None
            ctypes.cast(ctypes.byref(parameters), POINTER(ctypes.c_uint8))[place + len(_SWITCHES) - 1] = 1
        context = self._library.llama_init_from_model(self._model, parameters)
        if not context:
            return None
        getters = ("llama_n_ctx", "llama_n_batch", "llama_n_ubatch", "llama_n_seq_max")
        taken = tuple(int(getattr(self._library, getter)(context)) for getter in getters)
        if taken != wanted:
            raise LibraryError(f"its context has the sizes {list(taken)}, expected {list(wanted)}")
        if int(self._library.llama_n_ctx_seq(context)) != size:
            self._library.llama_free(context)
            return None
        return int(context)

    def _keep_error(self, level: int, text: bytes, _data: int | None) -> None:
        if level == _ERROR:
            line = text.decode(errors="replace").strip()
            # The first error names the cause; those after it only say what failed in consequence.
            self._first_error = self._first_error or line
            print(line, file=sys.stderr, flush=True)


def _open_library() -> ctypes.CDLL:
    """Open the shared library inside the package xllamacpp and declare the functions used here."""
    import xllamacpp.xllamacpp

    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    for name, (result, arguments) in _PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise LibraryError(f"xllamacpp does not offer {name}") from error
        function.restype, function.argtypes = result, arguments
    return library
