"""Where models come from: one file per source, and the one function that gets a model onto this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from smidgen import registry
from smidgen.errors import DamagedFile
from smidgen.models.files import digest_of_files
from smidgen.models.reference import Reference, parse
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.models.store import Store, StoredModel

_SOURCES = {
    "catalog": "index",
    "hub": "hub",
    "folder": "folder",
    "gguf": "gguf_file",
    "ollama": "ollama_registry",
}


@dataclass(frozen=True)
class LocalModel:
    """A model whose files are on this machine.

    Attributes:
        name: The name it is known by: its name in the store, or the path as it was written.
        path: The folder (safetensors) or the file (GGUF).
        kind: "gguf" or "safetensors".
        sha256: Digest in hex: of the GGUF file, or over the names and contents of the folder's weights,
            configuration and tokenizer.
        bytes: Size of the files that the digest covers.
        licence: The licence's identifier as its card or catalog entry gives it.
        base_model: Repository of the published original.
        files: Licence texts, notices and the model card, to travel with whatever is made of the model.
        facts: Everything else known: ``source``, ``commit``, ``dequantised_from``, ``licence_notice``, ...
    """

    name: str
    path: Path
    kind: Literal["gguf", "safetensors"]
    sha256: str
    bytes: int
    licence: str | None
    base_model: str | None
    files: tuple[Path, ...]
    facts: Mapping[str, Any]

    @property
    def licence_text(self) -> str:
        """What its licence files and notices say; empty where it brings none."""
        texts = [path for path in self.files if path.name.lower().startswith(("licen", "notice"))]
        return "\n\n".join(path.read_text(encoding="utf-8", errors="replace").strip() for path in texts)

    @property
    def depth(self) -> int | None:
        """Bits at which it is to be read, as in ``small@4bit``; None for all that it has."""
        found: int | None = self.facts.get("depth")
        return found


class Source(Protocol):
    """Gets models of one kind of reference."""

    def fetch(self, reference: Reference, store: Store, *, offline: bool, progress: Progress) -> LocalModel:
        """Return the model on this machine, bringing it into the store where it is not a local path."""
        ...

    def files(self, model: LocalModel) -> dict[str, Path]:
        """Return every file of a fetched model by the name it has in the store."""
        ...


def fetch(reference: Reference, store: Store, *, offline: bool = False, progress: Progress = silent) -> LocalModel:
    """Get a model onto this machine.

    What the catalog or the hub delivers goes into the store, and comes from there the next time; folders and
    files are used where they lie and never written to.

    Args:
        reference: What `parse` understood.
        store: The model store.
        offline: Take only what is on this machine.
        progress: Receives reports; raising from it stops the work.

    Raises:
        ReferenceNotFound: The source has no such model.
        SourceUnavailable: The source could not deliver, or `offline` forbids asking.
        DamagedFile: What was delivered is not what was promised.
        Unsupported: It holds pickles or needs remote code, neither of which is ever run.
    """
    if reference.kind == "store":
        found = from_store(store.resolve(reference.name))
    else:
        found = _source(reference).fetch(reference, store, offline=offline, progress=progress)
    if reference.depth is not None:
        found = replace(found, name=str(reference), facts={**found.facts, "depth": reference.depth})
    return found


def pull(
    text: str,
    store: Store,
    *,
    name: str | None = None,
    offline: bool = False,
    insecure: bool = False,
    progress: Progress = silent,
) -> StoredModel:
    """Get a model and keep it in the store under a name.

    A model of a registry is asked for there even where the store has it: what has changed is fetched.

    Args:
        text: The reference as a person writes it.
        store: The model store.
        name: The name to keep it under; by default its own, for a folder or file the name of that.
        offline: Take only what is on this machine.
        insecure: Allow registries without encryption.
        progress: Receives reports.
    """
    reference = parse(text, store)
    if reference.kind == "ollama" and not offline:
        from smidgen.models.sources.ollama_registry import download

        stored = download(reference.name, store, insecure=insecure, progress=progress)
        return store.copy(stored.name, name) if name else stored
    model = fetch(reference, store, offline=offline, progress=progress)
    if reference.kind in ("folder", "gguf"):
        chosen = name or _name_of(model.path)
        return store.add(chosen, _source(reference).files(model), _facts(model), progress=progress)
    return store.copy(model.name, name) if name else store.resolve(model.name)


def from_store(stored: StoredModel) -> LocalModel:
    """Describe a stored model as the other rooms know models.

    Raises:
        DamagedFile: Its facts do not say what it is.
    """
    from smidgen.models.sources import _layout

    facts = stored.facts
    ggufs = [name for name in stored.digests if name.lower().endswith(".gguf")]
    if facts.get("weights") in stored.digests:  # beside adapters and drafts, which are GGUF files too
        ggufs = [facts["weights"]]
    layout = _layout.select(stored.digests)
    if len(ggufs) == 1 and not layout.weights:
        kind: Literal["gguf", "safetensors"] = "gguf"
        path, digest, covered = stored.folder / ggufs[0], stored.digests[ggufs[0]], ggufs
    elif layout.weights:
        kind, path, covered = "safetensors", stored.folder, list(layout.model)
        digest = digest_of_files({name: stored.digests[name] for name in covered})
    else:
        raise DamagedFile(
            f"The stored model {stored.name} holds no weights.", remedy=f"Run 'smidgen rm {stored.name}'."
        )
    return LocalModel(
        name=stored.name,
        path=path,
        kind=kind,
        sha256=digest,
        bytes=sum((stored.folder / name).stat().st_size for name in covered),
        licence=facts.get("licence"),
        base_model=facts.get("base_model"),
        files=tuple(stored.folder / name for name in layout.documents),
        facts=facts,
    )


def _source(reference: Reference) -> Source:
    source: Source = registry.find("smidgen.models.sources", _SOURCES[reference.kind])()
    return source


def _facts(model: LocalModel) -> dict[str, Any]:
    return {**model.facts, "format": model.kind, "licence": model.licence, "base_model": model.base_model}


def _name_of(path: Path) -> str:
    stem = path.stem if path.is_file() else path.name
    return re.sub(r"[^a-z0-9_.-]+", "-", stem.lower()).strip("-.")[:96] or "model"
