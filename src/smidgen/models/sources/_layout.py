"""Which files of a folder or repository make up a model, and what its configuration and card say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.models.checkpoint.safetensors import read_object

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_SUPPORT = (
    "added_tokens.json",
    "chat_template*.jinja",
    "chat_template*.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "smidgen.json",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer*.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
_DOCUMENTS = ("licen[cs]e*", "notice*", "use_policy*", "readme.md")


@dataclass(frozen=True)
class Layout:
    """A model's files by what they are for.

    Attributes:
        weights: Safetensors files.
        support: Configuration, tokenizer and chat template.
        documents: Licence texts, notices and the card.
        ggufs: GGUF files.
        pickles: Files that could run code when they are read; never touched.
    """

    weights: tuple[str, ...]
    support: tuple[str, ...]
    documents: tuple[str, ...]
    ggufs: tuple[str, ...]
    pickles: tuple[str, ...]

    @property
    def model(self) -> tuple[str, ...]:
        """What decides the model's outputs: weights, configuration and tokenizer."""
        return tuple(sorted((*self.weights, *self.support)))


def select(names: Iterable[str]) -> Layout:
    """Sort file names by their use; files in sub-folders have none.

    Where ``model*.safetensors`` are there, other safetensors are a second copy or an adapter and are left out.

    Example:
        >>> select(["model.safetensors", "consolidated.safetensors", "config.json", "run.py"]).model
        ('config.json', 'model.safetensors')
    """
    top = sorted(name for name in names if "/" not in name)

    def among(patterns: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in top if any(fnmatchcase(name.lower(), pattern) for pattern in patterns))

    weights = among(["model*.safetensors"]) or among(["*.safetensors"])
    return Layout(weights, among(_SUPPORT), among(_DOCUMENTS), among(["*.gguf"]), among(_PICKLES))


def require_model(layout: Layout, place: str) -> None:
    """Refuse what holds no safetensors model, saying what it holds instead.

    Raises:
        Unsupported: Only pickles.
        InvalidInput: No weights, or no configuration.
    """
    if layout.weights and "config.json" in layout.support:
        return
    if layout.weights:
        raise InvalidInput(
            f"{place} has no config.json.",
            remedy="An adapter alone is not a model; give the folder or repository of a whole one.",
        )
    if layout.ggufs:
        listing = ", ".join(f"'{place}/{name}'" for name in layout.ggufs)
        raise InvalidInput(f"{place} holds GGUF files and no safetensors.", remedy=f"Name one file: {listing}.")
    if layout.pickles:
        raise Unsupported(
            f"{place} holds its weights only as pickles ({layout.pickles[0]}), which can run code when they are "
            "read, so smidgen never does.",
            remedy="Use a copy of the model that holds safetensors.",
        )
    raise InvalidInput(f"{place} holds no safetensors.", remedy="Give a folder or repository with weights in it.")


def require_shards(folder: Path, layout: Layout) -> None:
    """Check that every shard that the index names is there.

    Raises:
        DamagedFile: The index is not readable, or a shard is missing.
    """
    index = folder / "model.safetensors.index.json"
    if index.name not in layout.support:
        return
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict):
        raise DamagedFile(f"{index} has no weight map.", remedy="Fetch the model again.")
    missing = sorted({str(shard) for shard in shards.values()} - set(layout.weights))
    if missing:
        raise DamagedFile(f"{folder} lacks {missing[0]}, which its index names.", remedy="Fetch the model again.")


def read_card(path: Path) -> dict[str, Any]:
    """Return the facts at the head of a model card, {} where there are none that can be read."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    parts = text.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        facts = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}
    return facts if isinstance(facts, dict) else {}


def licence_and_base(card: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return a card's licence and base model; of several the first.

    Example:
        >>> licence_and_base({"license": "other", "license_name": "llama3.2", "base_model": ["org/name"]})
        ('llama3.2', 'org/name')
    """
    licence = card.get("license")
    if licence == "other":
        licence = card.get("license_name", licence)
    return _first(licence), _first(card.get("base_model"))


def _first(value: Any) -> str | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return str(value) if value else None
