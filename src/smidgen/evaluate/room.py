"""Whether a model fits into memory, foretold from its header before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from smidgen import machine
from smidgen.errors import OutOfResources
from smidgen.evaluate.report import words
from smidgen.inference.footprint import WORKSPACE, cache_bytes_per_token

if TYPE_CHECKING:
    from smidgen.models.facts import Facts

_FLOAT = 4  # bytes of a weight that torch computes with


def require(
    facts: Facts, *, context: int, limit: int | None = None, in_torch: bool = False, projector: Path | None = None
) -> int:
    """Return the bytes that a model takes once it is loaded, and refuse one that does not fit.

    Args:
        facts: What its headers say.
        context: Tokens of the context it is opened with.
        limit: Bytes of memory to stay within; what is free now where None.
        in_torch: Whether a GGUF is dequantised for torch.
        projector: A file that is loaded with it.

    Raises:
        OutOfResources: It needs more; the message has the numbers.
    """
    dequantised = in_torch and not facts.path.is_dir()
    parts = {
        "its weights": _FLOAT * facts.parameters if dequantised else facts.bytes,
        "its projector": projector.stat().st_size if projector else 0,
        f"keys and values of {context:,} tokens": context * _cache_bytes(facts),
        "the engine": WORKSPACE,
    }
    require_parts(facts.name, parts, limit)
    return sum(parts.values())


def require_parts(name: str, parts: dict[str, int], limit: int | None = None) -> None:
    """Refuse a model whose parts do not fit into memory together.

    Args:
        name: The name it was asked for by.
        parts: What takes how many bytes.
        limit: Bytes of memory to stay within; what is free now where None.

    Raises:
        OutOfResources: They need more; the message has the numbers.
    """
    needed, room = sum(parts.values()), machine.memory()[1] if limit is None else limit
    if needed <= room:
        return
    listing = words.listing([f"{words.size(count)} for {what}" for what, count in parts.items() if count])
    has = "are free" if limit is None else "are allowed by --max-memory"
    raise OutOfResources(
        f"{name} needs about {words.size(needed)} of memory ({listing}), and {words.size(room)} {has}.",
        remedy="Nothing was loaded. Leave it out, take a smaller file of it, or use it through a server's address.",
    )


def _cache_bytes(facts: Facts) -> int:
    """Return the bytes of one token's keys and values; of a folder at most, its heads are not looked at."""
    if facts.path.is_dir():
        return 4 * (facts.layers or 0) * (facts.hidden_size or 0)
    from smidgen.models.checkpoint.gguf import read_beginning

    return cache_bytes_per_token(read_beginning(facts.path))
