"""What a served model is, read from its file's header once: for listings, for its template, for its memory."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, SmidgenError
from smidgen.inference import chat_template, go_template
from smidgen.inference.answers import thinking_marks

if TYPE_CHECKING:
    from smidgen.serving.library import ServedModel

_INSERT_TOKENS = (
    ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id"),
    ("tokenizer.ggml.prefix_token_id", "tokenizer.ggml.suffix_token_id", "tokenizer.ggml.middle_token_id"),
)
_IMAGE_TOKENS = 768

_LONGEST_LIST = 1024
"""Longer lists (a vocabulary, its merges) are not kept in memory."""

_CONFIGURED = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "vocab_size": "vocab_size",
}


@dataclass(frozen=True)
class Header:
    """A model's file without its weights.

    Attributes:
        metadata: Key-value pairs as GGUF names them; None for lists that are too long to keep.
        tensors: Each tensor's name, number format and shape.
        jinja: The chat template that the file brings; empty where there is none.
        bos: The text of the token that stands before every text, empty where it is not said.
        eos: The text of the token that ends a text.
    """

    metadata: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...] = ()
    jinja: str = ""
    bos: str = ""
    eos: str = ""

    def of_architecture(self, key: str) -> Any:
        """Return the value of a key below the architecture's own name; None where there is none."""
        return self.metadata.get(f"{self.metadata.get('general.architecture')}.{key}")

    @property
    def parameters(self) -> int:
        """Count of weights."""
        return sum(math.prod(shape) for _, _, shape in self.tensors)


def header_of(model: ServedModel) -> Header:
    """Return a model's header, read once for each digest.

    Raises:
        DamagedFile: It cannot be read.
    """
    return Header() if model.path is None else _read(model.digest, model.path)


def metadata_of(model: ServedModel) -> Mapping[str, Any]:
    """Return a model's metadata, as GGUF names them; None for lists that are too long to keep."""
    return header_of(model).metadata


def whole_metadata(model: ServedModel) -> Mapping[str, Any]:
    """Return a model's metadata with every list, read from its file."""
    if model.path is None or model.path.is_dir():
        return metadata_of(model)
    from smidgen.models.checkpoint import gguf

    return gguf.read(model.path).metadata


@lru_cache(maxsize=64)
def _read(digest: str, path: Path) -> Header:
    if path.is_dir():
        return _folder(path)
    from smidgen.models.checkpoint import gguf

    file = gguf.read(path)
    kept = {
        key: None if isinstance(value, list) and len(value) > _LONGEST_LIST else value
        for key, value in file.metadata.items()
    }
    tensors = tuple((each.name, each.format, tuple(each.shape)) for each in file.tensors.values())
    metadata = file.metadata
    tokens = metadata.get("tokenizer.ggml.tokens") or []

    def text_of(name: str) -> str:
        number = metadata.get(f"tokenizer.ggml.{name}_token_id")
        return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else ""

    jinja = metadata.get("tokenizer.chat_template")
    return Header(kept, tensors, jinja if isinstance(jinja, str) else "", text_of("bos"), text_of("eos"))


def _folder(folder: Path) -> Header:
    """Name a folder's configuration as GGUF would."""
    config = _json(folder / "config.json")
    tokenizer = _json(folder / "tokenizer_config.json")
    architecture = str(config.get("model_type", "unknown"))
    metadata: dict[str, Any] = {"general.architecture": architecture}
    language = config.get("llm_config") or config.get("text_config")
    named = {**language, **config} if isinstance(language, dict) else config
    for key, name in _CONFIGURED.items():
        if isinstance(named.get(name), int):
            metadata[f"{architecture}.{key}"] = named[name]
    jinja = folder / "chat_template.jinja"
    template = jinja.read_text(encoding="utf-8") if jinja.is_file() else tokenizer.get("chat_template")
    marks = {name: tokenizer.get(f"{name}_token") for name in ("bos", "eos")}
    texts = {name: mark.get("content", "") if isinstance(mark, dict) else mark or "" for name, mark in marks.items()}
    return Header(metadata, _stored(folder), template if isinstance(template, str) else "", **texts)


def _stored(folder: Path) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    from safetensors import SafetensorError, safe_open

    from smidgen.models import packed

    found: list[tuple[str, str, tuple[int, ...]]] = []
    for path in sorted(folder.glob("*.safetensors")):
        kept: dict[str, tuple[str, tuple[int, int]]] = {}
        if path.name == packed.WEIGHTS:
            with suppress(DamagedFile):
                kept = packed.shapes(path)
        found += [(name, number_format, shape) for name, (number_format, shape) in kept.items()]
        try:
            with safe_open(path, framework="np") as file:
                for name in sorted(set(file.keys()) - set(kept)):
                    part = file.get_slice(name)
                    found.append((name, str(part.get_dtype()), tuple(part.get_shape())))
        except (SafetensorError, OSError):
            continue
    return tuple(found)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def projector_of(model: ServedModel) -> Header | None:
    """Return the header of what turns images into tokens; None for a model of texts only, and where it is damaged."""
    path = model.projector
    if path is None:
        return None
    with suppress(DamagedFile):
        return _read(f"{model.digest}/{path.name}", path)
    return None


def sees(model: ServedModel) -> bool:
    """Say whether a model reads images, through a projector or by itself."""
    if sees_itself(model):
        return True
    projector = projector_of(model)
    return projector is not None and bool(projector.metadata.get("clip.has_vision_encoder", True))


def sees_itself(model: ServedModel) -> bool:
    """Say whether a model is a folder that holds all that it reads images with."""
    from smidgen.models.vision.folder import is_seeing

    return model.path is not None and model.path.is_dir() and is_seeing(model.path)


def image_tokens(model: ServedModel) -> int:
    """Estimate how many tokens one image becomes: one for each patch that is left, and at most what Ollama counts."""
    projector = projector_of(model)
    if projector is None:
        return _IMAGE_TOKENS if sees_itself(model) else 0
    size, patch, scale = (
        projector.metadata.get(f"clip.vision.{key}") for key in ("image_size", "patch_size", "projector.scale_factor")
    )
    if not (isinstance(size, int) and isinstance(patch, int) and patch):
        return _IMAGE_TOKENS
    return min(_IMAGE_TOKENS, (size // patch) ** 2 // max(1, int(scale or 1)) ** 2)


def template_of(model: ServedModel) -> str:
    """Return the model's own Go template; empty where it has none."""
    return str(model.facts.get("template") or "")


def capabilities(model: ServedModel) -> list[str]:
    """Say what a model can do, in Ollama's words.

    The echo engine does all that can be done with text.
    """
    if model.path is None:
        return ["completion", "tools", "insert", "embedding", "thinking"]
    header = header_of(model)
    if header.of_architecture("pooling_type") is not None:
        return ["embedding"]
    found = ["completion"]
    go, jinja = template_of(model), header.jinja
    names = _go_names(go) if go else frozenset[str]()
    if "tools" in names or (not go and chat_template.reads(jinja, "tools")):
        found.append("tools")
    if "suffix" in names or any(all(key in header.metadata for key in keys) for keys in _INSERT_TOKENS):
        found.append("insert")
    if "thinking" in names or thinking_marks(go or jinja) is not None:
        found.append("thinking")
    if sees(model):
        found.append("vision")
    return found


@lru_cache(maxsize=64)
def parsed(template: str) -> go_template.GoTemplate:
    """Return a Go template that was understood, parsed once.

    Raises:
        InvalidInput: It breaks the language's rules.
    """
    return go_template.parse(template)


def _go_names(template: str) -> frozenset[str]:
    try:
        return parsed(template).names
    except SmidgenError:
        return frozenset()


def details(model: ServedModel) -> dict[str, Any]:
    """Return what Ollama's listings say of every model."""
    header = header_of(model)
    family = str(header.metadata.get("general.architecture", "echo" if model.path is None else ""))
    sizes = {"context_length": "context_length", "embedding_length": "embedding_length"}
    found = {key: header.of_architecture(name) for key, name in sizes.items()}
    return {
        "parent_model": str(model.facts.get("parent") or ""),
        "format": "safetensors" if model.path is not None and model.path.is_dir() else "gguf",
        "family": family,
        "families": ([family, "clip"] if sees(model) else [family]) if family else None,
        "parameter_size": human_count(header.parameters),
        "quantization_level": _level(header),
        **{key: value for key, value in found.items() if isinstance(value, int)},
    }


def _level(header: Header) -> str:
    """Return the file's number format under llama.cpp's name; that of most weights where the file does not say."""
    stated = header.metadata.get("general.file_type")
    if isinstance(stated, int):
        from gguf import LlamaFileType

        if stated in set(LlamaFileType):
            return str(LlamaFileType(stated).name).removeprefix("MOSTLY_").removeprefix("ALL_")
    weights: Counter[str] = Counter()
    for _, number_format, shape in header.tensors:
        weights[number_format] += math.prod(shape)
    return weights.most_common(1)[0][0] if weights else "unknown"


def human_count(number: int) -> str:
    """Write a count of weights as Ollama does.

    Example:
        >>> human_count(134_515_008), human_count(8_030_000_000), human_count(7_000_000_000), human_count(12)
        ('134.52M', '8.0B', '7B', '12')
    """
    for size, unit, places in ((10**9, "B", 1), (10**6, "M", 2)):
        if number >= size:
            return f"{number // size}{unit}" if number % size == 0 else f"{number / size:.{places}f}{unit}"
    return f"{number / 1000:.0f}K" if number >= 1000 else str(number)
