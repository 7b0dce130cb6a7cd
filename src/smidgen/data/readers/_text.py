"""Bytes of a text file become characters, or the error says what the file is instead."""

from __future__ import annotations

import shlex
from pathlib import Path

from smidgen.errors import DamagedFile, InvalidInput

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f\v\x1b")


class EmptyFile(InvalidInput):
    """A data file without any content."""


def read_text(path: Path) -> str:
    r"""Read a UTF-8 file (a byte order mark is dropped, line ends become ``\n``).

    Raises:
        EmptyFile: The file is empty or has only white space.
        DamagedFile: It is binary.
        InvalidInput: It cannot be opened or is text in another encoding.
    """
    data = read_bytes(path)
    if data.startswith(_UTF16):
        raise _not_utf8(path, "it begins with the mark of UTF-16", "UTF-16")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DamagedFile(
            f"{path} is binary, not text (a NUL byte in line {line}).", remedy="Export its content as UTF-8 text."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _undecodable(path, data, error.start) from None
    if not text.strip():
        raise EmptyFile(f"{path} has only blank lines.", remedy="Give a file with content.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path) -> bytes:
    """Read a file that must not be empty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", remedy="Check its permissions.") from None
    if not data:
        raise EmptyFile(f"{path} is empty.", remedy="Give a file with content.")
    return data


def _undecodable(path: Path, data: bytes, at: int) -> DamagedFile | InvalidInput:
    place = f"byte 0x{data[at]:02X} in line {data.count(bytes([10]), 0, at) + 1}"
    if any(byte in _CONTROL for byte in data[:4096]):
        return DamagedFile(f"{path} is binary, not text ({place}).", remedy="Export its content as UTF-8 text.")
    return _not_utf8(path, f"{place}; it looks like Latin-1", "ISO-8859-1")


def _not_utf8(path: Path, why: str, encoding: str) -> InvalidInput:
    source, target = shlex.quote(str(path)), shlex.quote(f"{path.stem}-utf8{path.suffix}")
    return InvalidInput(
        f"{path} is not UTF-8 ({why}).", remedy=f"Convert it: iconv -f {encoding} -t UTF-8 {source} > {target}"
    )
