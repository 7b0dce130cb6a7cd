"""Names of models in the store: what they may look like, and how they become paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from smidgen.errors import InvalidInput

DEFAULT_TAG = "latest"
HUB_SPACE = "hf"

_PORT = re.compile(r"^([^/:]+):(\d{1,5})/", re.ASCII)
"""A registry's host with its port; no file name may have the colon on every system."""

_PART = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,94}[a-z0-9_])?", re.ASCII)


@dataclass(frozen=True)
class StoreName:
    """A name in the store; case does not matter, the default tag is ``latest``.

    Models of the hub stand in a space of their own and are written as they are asked for
    (``hf:org/name@commit``).

    Attributes:
        parts: The name's parts, each of lower-case letters, digits, ``.``, ``_`` and ``-``.
        tag: The version.

    Example:
        >>> str(StoreName.parse("My-Model")), str(StoreName.parse("hf:Org/Name@1A2B"))
        ('my-model:latest', 'hf:org/name@1a2b')
        >>> str(StoreName.parse("localhost:5000/me/mine"))
        'localhost-5000/me/mine:latest'
        >>> StoreName.parse("../x")
        Traceback (most recent call last):
            ...
        smidgen.errors.InvalidInput: '../x' is not a name for a stored model. \
Use letters, digits, '.', '_' and '-', and a tag after ':' if you like, as in 'tickets-small:v2'.
    """

    parts: tuple[str, ...]
    tag: str = DEFAULT_TAG

    def __post_init__(self) -> None:
        if not 1 <= len(self.parts) <= 4 or not all(_PART.fullmatch(part) for part in (*self.parts, self.tag)):
            raise _invalid(str(self))

    @classmethod
    def parse(cls, text: str) -> StoreName:
        """Read a name as a person writes it.

        Raises:
            InvalidInput: It has characters or parts that a name may not have.
        """
        cleaned = text.strip().lower()
        if cleaned.startswith(f"{HUB_SPACE}:"):
            path, _, tag = cleaned.removeprefix(f"{HUB_SPACE}:").partition("@")
            parts: tuple[str, ...] = (HUB_SPACE, *path.split("/"))
        else:
            path, colon, tag = _PORT.sub(r"\1-\2/", cleaned).partition(":")
            parts = tuple(path.split("/"))
            if (colon and not tag) or parts[0] == HUB_SPACE:
                raise _invalid(text)
        try:
            return cls(parts, tag or DEFAULT_TAG)
        except InvalidInput:
            raise _invalid(text) from None

    @classmethod
    def of_manifest(cls, path: PurePosixPath) -> StoreName | None:
        """Return the name whose manifest lies at this path below the folder of manifests, None if it is none."""
        try:
            return cls(path.parent.parts, path.stem)
        except InvalidInput:
            return None

    def manifest(self, root: Path) -> Path:
        """Return where the manifest lies below the folder of manifests."""
        return root.joinpath(*self.parts, f"{self.tag}.json")

    def __str__(self) -> str:
        if self.parts[:1] == (HUB_SPACE,):
            return f"{HUB_SPACE}:{'/'.join(self.parts[1:])}@{self.tag}"
        return f"{'/'.join(self.parts)}:{self.tag}"


def _invalid(text: str) -> InvalidInput:
    return InvalidInput(
        f"{text!r} is not a name for a stored model.",
        remedy="Use letters, digits, '.', '_' and '-', and a tag after ':' if you like, as in 'tickets-small:v2'.",
    )
