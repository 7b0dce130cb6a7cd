"""The models of a comparison, found and weighed before any of them is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smidgen.errors import InvalidInput, Unsupported
from smidgen.evaluate import room
from smidgen.inference.remote_address import is_address, parse_address
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.inference.engine import Engine
    from smidgen.inference.remote_server import RemoteFacts
    from smidgen.inference.scoring import Subject
    from smidgen.models.facts import Facts

LONGEST_CONTEXT = 4096
"""Tokens of the context that answers are written in; fewer where a model holds fewer."""


@dataclass(frozen=True)
class Contestant:
    """One model that takes part.

    Attributes:
        name: The name it was asked for by.
        engine: What runs it.
        facts: What its headers say; None behind a server.
        remote: What its server says; None for a model on this machine.
        context: Tokens of the context it is opened with.
        memory: Bytes that it takes once it is loaded, as estimated; 0 behind a server.
        projector: A GGUF that turns images into what it reads.
    """

    name: str
    engine: Literal["llama_cpp", "torch", "remote", "echo"]
    facts: Facts | None = None
    remote: RemoteFacts | None = None
    context: int = LONGEST_CONTEXT
    memory: int = 0
    projector: Path | None = None

    @property
    def identity(self) -> str:
        """What is the same as long as the same model is run by the same program."""
        if self.facts is not None:
            known: list[Any] = [self.facts.sha256, self.facts.depth, self.context]
            known += [version(name) for name in ("xllamacpp", "torch", "transformers")]
            known += [self.projector.stat().st_size] if self.projector else []
        else:
            known = [self.name, self.remote.to_dict() if self.remote else None]
        return hashlib.sha256(json.dumps([self.engine, *known]).encode()).hexdigest()[:24]

    @property
    def chats(self) -> bool:
        """Whether prompts are laid out as a conversation; servers do that by themselves."""
        return self.facts is None or self.facts.chat_template

    @property
    def sees(self) -> bool:
        """Whether it can be shown images; of a model behind a server only its answer tells."""
        from smidgen.models.vision.folder import is_seeing

        if self.facts is None:
            return self.remote is not None
        return self.projector is not None or (self.facts.path.is_dir() and is_seeing(self.facts.path))

    @property
    def subject(self) -> Subject | None:
        """How it is scored; None where its probabilities cannot be had."""
        if self.facts is None:
            return None
        from smidgen.inference.scoring import Subject

        return Subject(self.facts.path, depth=self.facts.depth)

    def open(self, threads: int | None) -> Engine:
        """Load it."""
        from smidgen.inference.engine import open_engine

        if self.facts is None:
            return open_engine(self.name)
        given: dict[str, Any] = {"threads": threads, "context": self.context, "projector": self.projector}
        return open_engine(self.facts.path, depth=self.facts.depth, **given)

    def to_dict(self) -> dict[str, Any]:
        """Return what reports say of it, as plain data."""
        known: dict[str, Any] = {"name": self.name, "engine": self.engine, "context": self.context}
        known |= dict.fromkeys(("bytes", "parameters", "bits_per_weight", "format", "sha256", "licence", "base_model"))
        known |= {"server": None, "dequantised_from": None}
        if self.facts is not None:
            facts = self.facts
            known |= {name: getattr(facts, name) for name in known if hasattr(facts, name) and name != "name"}
            known["format"] = next(iter(facts.formats), None)
        elif self.remote is not None:
            told = self.remote
            known |= {"bytes": told.bytes, "parameters": told.parameters, "format": told.format}
            known |= {"sha256": told.digest, "server": told.server, "context": None}
        return known


def find_contestants(
    names: Sequence[str],
    *,
    limit: int | None = None,
    offline: bool = False,
    progress: Progress = silent,
) -> list[Contestant]:
    """Find the models, and refuse what cannot be loaded.

    Args:
        names: Names, folders, ``.gguf`` files, addresses of models behind servers, or "echo".
        limit: Bytes of memory to stay within; what is free now where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: There is no such model.
        SourceUnavailable: A server does not answer.
        InvalidInput: One is named twice.
        OutOfResources: One does not fit into memory; nothing was loaded.
    """
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise InvalidInput(f"{', '.join(twice)} is named twice.", remedy="Name every model once.")
    return [_find(name, limit, offline, progress) for name in names]


def _find(name: str, limit: int | None, offline: bool, progress: Progress) -> Contestant:
    if is_address(name):
        return _behind_server(name, offline)
    if name == "echo":
        return Contestant(name, "echo")
    from smidgen.evaluate.measure import facts_of
    from smidgen.export import runnable
    from smidgen.inference.setup import Setup

    local = runnable.find(name, offline=offline, progress=progress)
    if local.kind != "gguf":  # a GGUF may have to be written of it, which loads it; the exact need follows
        room.require_parts(name, {"its weights": local.bytes}, limit)
    facts, projector = facts_of(local, "auto", progress), Setup.of(local).projector
    context = min(facts.context_length or LONGEST_CONTEXT, LONGEST_CONTEXT)
    needed = room.require(facts, context=context, limit=limit, projector=projector)
    engine: Literal["llama_cpp", "torch"] = "torch" if facts.path.is_dir() else "llama_cpp"
    return Contestant(name, engine, facts, context=context, memory=needed, projector=projector)


def _behind_server(name: str, offline: bool) -> Contestant:
    if offline and not parse_address(name).is_loopback:
        raise Unsupported(f"{name} lies on another machine, and --offline was asked for.", remedy="Leave it out.")
    from smidgen.inference.engines.remote import Remote

    with Remote(name) as opened:
        return Contestant(name, "remote", remote=opened.facts)
