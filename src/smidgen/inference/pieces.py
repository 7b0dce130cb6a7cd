"""What each token of a tokenizer stands for as bytes, and bytes put together to whole characters and stop texts."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from smidgen.models.checkpoint.tokens import CONTROL, UNUSED, USER_DEFINED, table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def of_tokenizer(tokenizer: PreTrainedTokenizerFast, rows: int) -> list[bytes]:
    """Return the bytes of every token, special ones spelled out; rows without a token have none.

    Args:
        tokenizer: Byte-level BPE or SentencePiece's.
        rows: Rows of the model's embedding.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens, types = table(spec, rows)
    byte_level = "ByteLevel" in json.dumps([spec["pre_tokenizer"], spec["decoder"]])
    return [_piece(token, kind, byte_level) for token, kind in zip(tokens, types, strict=True)]


def _piece(token: str, kind: int, byte_level: bool) -> bytes:
    if kind == UNUSED:
        return b""
    if kind == CONTROL or (kind == USER_DEFINED and byte_level):
        return token.encode()
    if byte_level:
        signs = _byte_signs()
        return bytes(signs[sign] for sign in token) if all(sign in signs for sign in token) else token.encode()
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


@cache
def _byte_signs() -> dict[str, int]:
    """Return the byte of every sign of byte-level tokenizers: printable ones are their own, others follow 255."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    signs = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return signs | {chr(0x100 + place): byte for place, byte in enumerate(others)}


class Writing:
    """An answer as it is written: whole characters only, and nothing that may be the beginning of a stop text.

    Args:
        stops: Texts at which the answer ends.

    Example:
        >>> writing = Writing(["END"])
        >>> [writing.add(piece) for piece in (b"a", b" E", b"x", b" END", b"b")]
        ['a', ' ', 'Ex', ' ', '']
        >>> writing.stopped
        'END'
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._held = ""
        self.stopped = ""
        """The stop text that ended the answer; empty where none did."""

    def add(self, piece: bytes) -> str:
        """Take a token's bytes; returns what is certain of the answer now."""
        if self.stopped:
            return ""
        text = self._held + self._decoder.decode(piece)
        ends = [(place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if ends:
            place, self.stopped = min(ends)
            self._held = ""
            return text[:place]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """Return what was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may be the beginning of a stop text."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
