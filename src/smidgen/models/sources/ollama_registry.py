"""Models of a registry that speaks Ollama's protocol: ``ollama:llama3.2``, ``ollama:namespace/name:tag``.

The registry is that of Ollama, or the one in ``SMIDGEN_OLLAMA_REGISTRY`` (with "http://" where it has no
encryption), or the one that stands before the name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound, SourceUnavailable
from smidgen.models.files import atomic_write, require_free, sha256_of
from smidgen.models.names import DEFAULT_TAG, StoreName
from smidgen.models.ollama_layers import FILES, MANIFEST_TYPE, Layer, LayeredModel, facts_of, text_layers
from smidgen.models.sources import LocalModel, from_store
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    from smidgen.models.oci import OciRegistry
    from smidgen.models.reference import Reference
    from smidgen.models.store import Store, StoredModel

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
HOST_VARIABLE = "SMIDGEN_OLLAMA_REGISTRY"


@dataclass(frozen=True)
class OllamaRegistry:
    """Gets models from a registry of Ollama's protocol, and keeps them in the store under their short names."""

    def fetch(self, reference: Reference, store: Store, *, offline: bool, progress: Progress) -> LocalModel:
        """Return the model from the store, after downloading it if need be.

        Raises:
            ReferenceNotFound: The registry has no such model.
            SourceUnavailable: It could not deliver, or `offline` forbids asking.
            DamagedFile: What it delivered is not what was promised.
        """
        name = Address.parse(reference.name).stored
        if name in store.names():
            return from_store(store.resolve(name))
        if offline:
            with _naming_similar(reference.name, store):
                raise SourceUnavailable(
                    f"{reference} is not in the store yet, and nothing may be fetched offline.",
                    remedy=f"Run 'smidgen pull {reference}' once without --offline.",
                )
        return from_store(download(reference.name, store, progress=progress))

    def files(self, model: LocalModel) -> dict[str, Path]:
        """Return every file of the model."""
        return {path.name: path for path in (model.path, *model.files)}


@dataclass(frozen=True)
class Address:
    """Where a model lies in a registry.

    Attributes:
        host: The registry.
        repository: Namespace and name.
        tag: The version.
        stored: The name that it has in the store.

    Example:
        >>> address = Address.parse("llama3.2:1b", host="registry.example")
        >>> address.host, address.repository, address.tag, address.stored
        ('registry.example', 'library/llama3.2', '1b', 'llama3.2:1b')
        >>> Address.parse("localhost:5000/me/mine").repository
        'me/mine'
    """

    host: str
    repository: str
    tag: str
    stored: str

    @classmethod
    def parse(cls, text: str, host: str | None = None) -> Address:
        """Read ``[host/][namespace/]name[:tag]``.

        Raises:
            InvalidInput: It is none.
        """
        own = host or os.environ.get(HOST_VARIABLE) or DEFAULT_HOST
        scheme, mark, rest = text.rpartition("://")
        *before, last = rest.split("/")
        name, _, tag = last.partition(":")
        named = len(before) == 2 and bool(before[0])
        parts = [*(before[-1:] or [DEFAULT_NAMESPACE]), name]
        given = f"{scheme}{mark}{before[0]}" if named else own
        shown = before[:1] if named else []
        shown += [part for part in parts if named or part != DEFAULT_NAMESPACE]
        if len(before) > 2 or (mark and not named) or scheme not in ("", "http", "https"):
            raise InvalidInput(
                f"{text!r} is no name in a registry.", remedy="Write it as 'ollama:name:tag' or 'ollama:space/name'."
            )
        stored = str(StoreName.parse(f"{'/'.join(shown)}:{tag or DEFAULT_TAG}"))
        StoreName(tuple(part.lower() for part in parts), (tag or DEFAULT_TAG).lower())
        return cls(given, "/".join(parts), tag or DEFAULT_TAG, stored)


def download(text: str, store: Store, *, insecure: bool = False, progress: Progress = silent) -> StoredModel:
    """Get a model from a registry, whether the store has one of that name or not.

    Args:
        text: ``[host/][namespace/]name[:tag]``.
        store: Where it is kept.
        insecure: Allow registries without encryption.
        progress: Receives reports; those about one layer are `smidgen.models.oci.LayerEvent`.

    Raises:
        SmidgenError: As `OllamaRegistry.fetch` does.
    """
    address = Address.parse(text)
    with _opened(address, insecure) as registry, store.fetching(address.stored, progress) as folder:
        progress(Event("pulling manifest"))
        with _naming_similar(text, store):
            content = _manifest(registry, address)
        model = LayeredModel.read(content, text)
        layers = [*model.layers, model.config]
        require_free(folder, sum(layer.bytes for layer in layers))
        for layer in layers:
            _fetch(registry, layer, store, folder, progress)
        progress(Event("verifying sha256 digest"))
        return _keep(model, address, store, folder, progress)


def push(name: str, store: Store, *, insecure: bool = False, progress: Progress = silent) -> str:
    """Send a stored model to a registry, under its own name there.

    Args:
        name: The model's name in the store: ``namespace/name:tag``, or ``host/namespace/name:tag``.
        store: Where it is kept.
        insecure: Allow registries without encryption.
        progress: Receives reports.

    Returns:
        Where it lies now.

    Raises:
        ReferenceNotFound: The store has no such model.
        InvalidInput: It is no GGUF.
        SourceUnavailable: The registry does not take it.
    """
    from smidgen.models.oci import LayerEvent

    address = Address.parse(name)
    local = from_store(store.resolve(address.stored))
    if local.kind != "gguf":
        raise InvalidInput(
            f"{name} is a folder of {local.kind}, and registries of this kind keep GGUF files.",
            remedy=f"Make one first: a Modelfile with FROM {address.stored}, and smidgen create.",
        )
    with _opened(address, insecure) as registry, store.fetching(f"{address.stored}-push", progress) as folder:
        progress(Event("retrieving manifest"))
        layers = _layers(local, folder)
        config = _config(local, layers, folder)
        for layer, path in (*layers, config):

            def report(done: int, layer: Layer = layer) -> None:
                stage = f"pushing {layer.sha256[:12]}"
                progress(LayerEvent(stage, done, layer.bytes, "bytes", digest=layer.digest))

            report(0)
            if registry.holds(layer.sha256):
                report(layer.bytes)
            else:
                registry.send(layer.sha256, path, report)
        progress(Event("pushing manifest"))
        manifest = LayeredModel(config[0], tuple(layer for layer, _ in layers))
        registry.send_manifest(address.tag, manifest.text(), MANIFEST_TYPE)
    return f"{registry.address}/{address.repository}:{address.tag}"


@contextmanager
def _naming_similar(name: str, store: Store) -> Iterator[None]:
    """Where a model cannot be had, offer those that this machine or the catalog knows by names like its own."""
    from smidgen.models.reference import did_you_mean, similar_names

    try:
        yield
    except (ReferenceNotFound, SourceUnavailable) as error:
        similar = similar_names(name, store.names())
        if not similar:
            raise
        remedy = f"{did_you_mean(similar)} {error.remedy or ''}".rstrip()
        message = f"No model {name!r} is on this machine or in the catalog; {error.message}"
        raise type(error)(message, remedy=remedy) from error


def _opened(address: Address, insecure: bool) -> OciRegistry:
    from smidgen.models.oci import OciRegistry

    # Whoever sets the variable to an address with "http://" has allowed it.
    allowed = address.host == os.environ.get(HOST_VARIABLE) and address.host.startswith("http://")
    return OciRegistry(address.host, address.repository, insecure=insecure or allowed)


def _manifest(registry: OciRegistry, address: Address) -> bytes:
    try:
        return registry.manifest(address.tag, MANIFEST_TYPE)
    except ReferenceNotFound:
        raise ReferenceNotFound(
            f"{registry.address} has no model {address.repository}:{address.tag}.", remedy="Check its name and tag."
        ) from None


def _fetch(registry: OciRegistry, layer: Layer, store: Store, folder: Path, progress: Progress) -> None:
    from smidgen.models.manifest import Content
    from smidgen.models.oci import LayerEvent

    stage, target = f"pulling {layer.sha256[:12]}", folder / f"sha256-{layer.sha256}"

    def report(done: int) -> None:
        progress(LayerEvent(stage, done, layer.bytes, "bytes", digest=layer.digest))

    report(0)
    if not target.exists():
        content = Content(layer.sha256, layer.bytes)
        if store.blobs.holds(content):
            os.link(store.blobs.folder / content.blob, target)
        else:
            registry.fetch(layer.sha256, layer.bytes, target, report)
    report(layer.bytes)


def _keep(model: LayeredModel, address: Address, store: Store, folder: Path, progress: Progress) -> StoredModel:
    files: dict[str, Path] = {}

    def file_name(layer: Layer, number: int) -> str:
        name = f"{layer.kind}.gguf" if layer.kind in ("model", "draft") else f"{layer.kind}-{number}.gguf"
        files[name] = folder / f"sha256-{layer.sha256}"
        return name

    facts = facts_of(model, lambda layer: (folder / f"sha256-{layer.sha256}").read_bytes(), file_name)
    facts["source"] = f"{address.host}/{address.repository}:{address.tag}"
    for number, text in enumerate(facts.get("license", ())):
        name = "LICENSE" if number == 0 else f"LICENSE-{number}"
        atomic_write(folder / name, text)
        files[name] = folder / name
    progress(Event("writing manifest"))
    return store.add(address.stored, files, facts, link=True, progress=progress)


def _layers(local: LocalModel, folder: Path) -> list[tuple[Layer, Path]]:
    """Return the layers of a stored model, with the files that hold them."""
    names = {kind: local.facts.get(fact, ()) for kind, fact in FILES.items() if kind != "model"}
    paths = [("model", local.path)]
    for kind, found in names.items():
        paths += [(kind, local.path.parent / name) for name in ([found] if isinstance(found, str) else found)]
    for number, (kind, content) in enumerate(text_layers(local.facts)):
        atomic_write(folder / f"text-{number}", content)
        paths.append((kind, folder / f"text-{number}"))
    return [(Layer(kind, sha256_of(path), path.stat().st_size), path) for kind, path in paths]


def _config(local: LocalModel, layers: list[tuple[Layer, Path]], folder: Path) -> tuple[Layer, Path]:
    from smidgen.models.facts import inspect

    facts = inspect(local)
    main = max(facts.formats, key=lambda name: facts.formats[name], default="unknown")
    described: dict[str, Any] = {
        "model_format": "gguf",
        "model_family": facts.architecture,
        "model_families": [facts.architecture],
        "model_type": f"{facts.parameters / 1e9:.1f}B" if facts.parameters >= 1e9 else f"{facts.parameters / 1e6:.0f}M",
        "file_type": main,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer, _ in layers]},
    }
    described |= {name: local.facts[name] for name in ("renderer", "parser", "requires") if local.facts.get(name)}
    path = folder / "config.json"
    atomic_write(path, json.dumps(described, separators=(",", ":")))
    return Layer("config", sha256_of(path), path.stat().st_size), path
