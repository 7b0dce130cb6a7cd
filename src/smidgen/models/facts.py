"""What a model on this machine is, read from its headers: size, formats, context, licence and lineage."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
from smidgen.models.lineage import Lineage

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel

MADE_MODEL = "model"
"""Folder beside a made GGUF that holds the model in the transformers layout, with its lineage."""


@dataclass(frozen=True)
class Facts:
    """What a model's headers say; nothing is loaded.

    Attributes:
        name: The name it was asked for by.
        path: The file or folder.
        kind: "gguf" or "safetensors".
        sha256: Its digest, in hex.
        bytes: Size of its files.
        architecture: As the file names it, "llama" or "LlamaForCausalLM".
        parameters: Count of weights.
        bits_per_weight: Bits of all tensors over their weights; metadata do not count.
        formats: Count of weights by number format, the largest first.
        context_length: Longest context as published, in tokens; None where it is not said.
        layers: Count of blocks; None where it is not said.
        hidden_size: Width of the residual stream; None where it is not said.
        vocabulary_size: Count of tokens; None where it is not said.
        chat_template: Whether it brings one.
        licence: Its licence's identifier.
        base_model: Repository of the published original.
        dequantised_from: Number format that the weights were published in, where that was not a float.
        lineage: What was done to it; None where it carries no record.
        depth: Bits at which it is to be read, as in ``small@4bit``; sizes and formats are then those.
    """

    name: str
    path: Path
    kind: str
    sha256: str
    bytes: int
    architecture: str
    parameters: int
    bits_per_weight: float
    formats: dict[str, int]
    context_length: int | None
    layers: int | None
    hidden_size: int | None
    vocabulary_size: int | None
    chat_template: bool
    licence: str | None
    base_model: str | None
    dequantised_from: str | None
    lineage: Lineage | None
    depth: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self) | {"path": str(self.path)}


def inspect(local: LocalModel) -> Facts:
    """Read the facts of a model.

    Raises:
        DamagedFile: Its headers cannot be read.
    """
    lineage = read_lineage(local.path)
    origin = lineage.origin if lineage else None
    shape = _gguf(local.path) if local.kind == "gguf" else _safetensors(local.path, local.depth)
    licence, base = shape.pop("licence"), shape.pop("base_model")
    return Facts(
        name=local.name,
        path=local.path,
        kind=local.kind,
        sha256=local.sha256,
        bytes=local.bytes,
        licence=local.licence or licence or (origin.licence if origin else None),
        base_model=local.base_model or base or (origin.base_model if origin else None),
        dequantised_from=local.facts.get("dequantised_from") or (origin.dequantised_from if origin else None),
        lineage=lineage,
        depth=local.depth,
        **shape,
    )


def read_lineage(path: Path) -> Lineage | None:
    """Return what was done to a model: the record in its folder, or beside a GGUF in its folder's ``model``.

    Raises:
        DamagedFile: There is a record, and it cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    for record in (folder / LINEAGE_FILE, folder / MADE_MODEL / LINEAGE_FILE):
        if record.is_file():
            return Lineage.read(record)
    return None


def _gguf(path: Path) -> dict[str, Any]:
    from smidgen.models.checkpoint import gguf

    file = gguf.read(path)
    metadata = file.metadata
    architecture = str(metadata.get("general.architecture"))
    formats: Counter[str] = Counter()
    stored = 0
    for tensor in file.tensors.values():
        count = 1
        for size in tensor.shape:
            count *= size
        formats[tensor.format] += count
        stored += tensor.data.nbytes
    tokens = metadata.get("tokenizer.ggml.tokens")
    return _counted(formats, stored) | {
        "architecture": architecture,
        "context_length": metadata.get(f"{architecture}.context_length"),
        "layers": metadata.get(f"{architecture}.block_count"),
        "hidden_size": metadata.get(f"{architecture}.embedding_length"),
        "vocabulary_size": len(tokens) if isinstance(tokens, list) else None,
        "chat_template": bool(metadata.get("tokenizer.chat_template")),
        "licence": metadata.get("general.license"),
        "base_model": published_as(metadata),
    }


def published_as(metadata: Mapping[str, Any]) -> str | None:
    """Return the repository of the original that a GGUF's metadata name, as "org/name"; None where they do not."""
    name = metadata.get("general.base_model.0.name")
    organization = metadata.get("general.base_model.0.organization")
    reference = f"{organization}/{name}"
    # Some writers put a title there: "Llama 3.2 1B".
    return reference if name and organization and " " not in reference else None


def _safetensors(folder: Path, depth: int | None) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    from smidgen.models import packed
    from smidgen.models.checkpoint import safetensors

    config = safetensors.read_config(folder)
    formats: Counter[str] = Counter()
    stored = 0
    for path in sorted(folder.glob("*.safetensors")):
        described = packed.shapes(path) if path.name == packed.WEIGHTS else {}
        for number_format, shape in described.values():
            read, saved = packed.read_as(number_format, shape, depth)
            formats[read] += math.prod(shape)
            stored -= saved
        try:
            with safe_open(path, framework="np") as file:
                for name in set(file.keys()) - set(described):
                    part = file.get_slice(name)
                    count = 1
                    for size in part.get_shape():
                        count *= size
                    formats[part.get_dtype()] += count
        except SafetensorError as error:
            raise DamagedFile(f"{path} cannot be read: {error}.", remedy="Fetch the model again.") from error
        stored += path.stat().st_size
    language = config.get("llm_config") or config.get("text_config")
    named = {**language, **config} if isinstance(language, dict) else config
    template = (folder / "chat_template.jinja").is_file() or _names_template(folder / "tokenizer_config.json")
    return _counted(formats, stored) | {
        "architecture": str((config.get("architectures") or [config.get("model_type")])[0]),
        "context_length": named.get("max_position_embeddings"),
        "layers": named.get("num_hidden_layers"),
        "hidden_size": named.get("hidden_size"),
        "vocabulary_size": named.get("vocab_size"),
        "chat_template": template,
        "licence": None,
        "base_model": None,
    }


def _names_template(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _counted(formats: Counter[str], stored: int) -> dict[str, Any]:
    total = sum(formats.values())
    bits = round(8 * stored / total, 3) if total else 0.0
    return {"parameters": total, "bits_per_weight": bits, "formats": dict(formats.most_common())}
