"""The models that Ollama keeps on this machine, read where they lie and never written to.

``OLLAMA_MODELS`` names their folder; ``~/.ollama/models`` by default. It holds ``blobs/sha256-<hex>`` and
``manifests/<host>/<namespace>/<name>/<tag>``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.models.files import digest_of_files
from smidgen.models.names import StoreName
from smidgen.models.ollama_layers import FILES, MOST_TEXT, Layer, LayeredModel, facts_of
from smidgen.models.store import StoredModel

_HOST, _NAMESPACE = "registry.ollama.ai", "library"


class OllamaStore:
    """Ollama's folder of models.

    Args:
        root: The folder; ``OLLAMA_MODELS``, else ``~/.ollama/models`` where None.
    """

    def __init__(self, root: Path | None = None) -> None:
        chosen = os.environ.get("OLLAMA_MODELS")
        self.root = root or (Path(chosen).expanduser() if chosen else Path.home() / ".ollama" / "models")

    def names(self) -> dict[str, Path]:
        """Return every model's name, as stored models are named, with its manifest."""
        folder = self.root / "manifests"
        found: dict[str, Path] = {}
        with suppress(OSError):
            for path in sorted(folder.glob("*/*/*/*")):
                host, namespace, model, tag = path.relative_to(folder).parts
                space = [] if namespace == _NAMESPACE and host == _HOST else [namespace]
                place = [] if host == _HOST else [host.replace(":", "-")]
                with suppress(InvalidInput):
                    name = StoreName(tuple(part.lower() for part in (*place, *space, model)), tag.lower())
                    found.setdefault(str(name), path)
        return found

    def resolve(self, name: str) -> StoredModel | None:
        """Return a model by its full name with the tag, None where there is none that can be read.

        Raises:
            DamagedFile: A part of it is missing.
            Unsupported: It is no GGUF.
        """
        path = self.names().get(name)
        if path is None:
            return None
        blobs = self.root / "blobs"
        model = LayeredModel.read(path.read_bytes(), name)
        for layer in (*model.layers, model.config):
            blob = blobs / f"sha256-{layer.sha256}"
            if not blob.is_file() or blob.stat().st_size != layer.bytes:
                raise DamagedFile(
                    f"Ollama's model {name} has lost a part: {blob}.", remedy=f"Run 'ollama pull {name}'."
                )
        facts = facts_of(model, lambda layer: _read(blobs, layer), lambda layer, _: f"sha256-{layer.sha256}")
        facts |= {"source": str(path), "read_only": True}
        digests = {f"sha256-{layer.sha256}": layer.sha256 for layer in model.layers if layer.kind in FILES}
        size = sum(layer.bytes for layer in model.layers)
        return StoredModel(name, blobs, digests, facts, size, digest_of_files(digests), path.stat().st_mtime)

    def list(self) -> tuple[StoredModel, ...]:
        """Return every model that can be read, by name."""
        models = []
        for name in sorted(self.names()):
            with suppress(DamagedFile, Unsupported, OSError):
                found = self.resolve(name)
                models += [found] if found is not None else []
        return tuple(models)


def _read(blobs: Path, layer: Layer) -> bytes:
    with open(blobs / f"sha256-{layer.sha256}", "rb") as file:
        return file.read(MOST_TEXT)
