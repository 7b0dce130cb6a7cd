"""Models as Ollama keeps and sends them: a manifest that names layers, each a blob of a media type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.modelfile import of_facts

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_PREFIX = "application/vnd.ollama.image."
MOST_TEXT = 16 << 20
"""Bytes of the longest layer of text that is read."""

FILES = {"model": "weights", "adapter": "adapters", "projector": "projectors", "draft": "draft"}
"""Kinds of layers that are files of their own, and the fact that names them."""

TEXTS = ("template", "prompt", "system", "params", "messages", "license")

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


@dataclass(frozen=True)
class Layer:
    """One part of a model.

    Attributes:
        kind: "model", "adapter", "projector", "draft", "template", "system", "params", "messages", "license" or
            "config".
        sha256: Digest of its bytes, in hex.
        bytes: Their count.
    """

    kind: str
    sha256: str
    bytes: int

    @property
    def digest(self) -> str:
        """The digest as registries write it."""
        return f"sha256:{self.sha256}"

    @property
    def media_type(self) -> str:
        """The kind as manifests write it."""
        return CONFIG_TYPE if self.kind == "config" else _PREFIX + self.kind

    def described(self) -> dict[str, Any]:
        """Return it as manifests have it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.bytes}


@dataclass(frozen=True)
class LayeredModel:
    """A model's manifest.

    Attributes:
        config: The layer that says what the model is.
        layers: The others, in order.
    """

    config: Layer
    layers: tuple[Layer, ...]

    def text(self) -> bytes:
        """Return the manifest as it is sent."""
        described = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.config.described(),
            "layers": [layer.described() for layer in self.layers],
        }
        return json.dumps(described, separators=(",", ":")).encode()

    @classmethod
    def read(cls, content: bytes, name: str) -> LayeredModel:
        """Read a manifest.

        Args:
            content: Its bytes.
            name: The model's name, for errors.

        Raises:
            DamagedFile: It is none.
            Unsupported: It holds no GGUF, or layers of kinds that are not known.
        """
        try:
            record = json.loads(content)
            config = _layer(record["config"], "config")
            layers = tuple(_layer(each, str(each["mediaType"]).removeprefix(_PREFIX)) for each in record["layers"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFile(f"The manifest of {name} cannot be read: {error}.", remedy="Try again.") from error
        unknown = next((layer.kind for layer in layers if layer.kind not in FILES and layer.kind not in TEXTS), None)
        if unknown is not None or not any(layer.kind == "model" for layer in layers):
            what = f"a part of the kind {unknown!r}" if unknown else "no weights"
            raise Unsupported(f"{name} holds {what}, which smidgen does not read.", remedy="Take it as GGUF.")
        return cls(config, layers)


def _layer(entry: Mapping[str, Any], kind: str) -> Layer:
    digest, size = _DIGEST.fullmatch(str(entry["digest"])), int(entry["size"])
    if digest is None or size < 0:
        raise ValueError(f"{entry['digest']!r} is no digest of {size} bytes")
    return Layer(kind, digest[1], size)


def facts_of(
    model: LayeredModel, read: Callable[[Layer], bytes], file_name: Callable[[Layer, int], str]
) -> dict[str, Any]:
    """Return what a model's layers say of it, as the facts of a stored model.

    Args:
        model: The manifest.
        read: Returns the bytes of a layer of text.
        file_name: Returns the name of a layer's file, given which of its kind it is.

    Raises:
        DamagedFile: A layer is not what its kind promises.
    """
    facts: dict[str, Any] = {"format": "gguf"}
    counts: dict[str, int] = {}
    for layer in model.layers:
        if layer.kind in FILES:
            name = file_name(layer, counts.setdefault(layer.kind, 0))
            counts[layer.kind] += 1
            if FILES[layer.kind] in ("adapters", "projectors"):
                facts.setdefault(FILES[layer.kind], []).append(name)
            else:
                facts.setdefault(FILES[layer.kind], name)
        else:
            _tell(facts, layer.kind, _text(layer, read))
    config = _object(_text(model.config, read))
    facts |= {name: str(config[name]) for name in ("renderer", "parser", "requires") if config.get(name)}
    facts["modelfile"] = of_facts(facts).text()
    return facts


def _text(layer: Layer, read: Callable[[Layer], bytes]) -> str:
    if layer.bytes > MOST_TEXT:
        raise DamagedFile(f"A layer of the kind {layer.kind!r} has {layer.bytes:,} bytes, which is no text.")
    try:
        return read(layer).decode()
    except UnicodeDecodeError:
        raise DamagedFile(f"A layer of the kind {layer.kind!r} is no text.") from None


def _tell(facts: dict[str, Any], kind: str, text: str) -> None:
    if kind == "license":
        facts.setdefault("license", []).append(text)
    elif kind == "params":
        facts["parameters"] = _object(text)
    elif kind == "messages":
        said = _json(text)
        turns = said if isinstance(said, list) else []
        facts["messages"] = [
            {"role": str(each.get("role", "user")), "content": str(each.get("content", ""))}
            for each in turns
            if isinstance(each, dict)
        ]
    else:
        facts["template" if kind == "prompt" else kind] = text


def _object(text: str) -> dict[str, Any]:
    found = _json(text)
    if not isinstance(found, dict):
        raise DamagedFile("A layer that should be a JSON object is none.")
    return found


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DamagedFile(f"A layer that should be JSON is none: {error}.") from None


def text_layers(facts: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Return the layers of text that a stored model's facts amount to: kind and content of each."""
    found: list[tuple[str, bytes]] = []
    for name in ("template", "system"):
        if facts.get(name):
            found.append((name, str(facts[name]).encode()))
    found += [("license", str(text).encode()) for text in facts.get("license", ())]
    for name, kind in (("parameters", "params"), ("messages", "messages")):
        if facts.get(name):
            found.append((kind, json.dumps(facts[name], separators=(",", ":"), ensure_ascii=False).encode()))
    return found
