"""The receipt: every number of a result, where it comes from, and how to measure it again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats, machine
from smidgen.errors import DamagedFile, ReferenceNotFound
from smidgen.models import uneven_gguf
from smidgen.models.checkpoint import gguf
from smidgen.models.files import projector_beside, sha256_of
from smidgen.models.gguf_weights import stored_weights

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.recipe.budget import Budget

FORMAT = 1
NAME = "receipt.json"


def read(folder: Path) -> dict[str, Any]:
    """Read a folder's receipt.

    Raises:
        ReferenceNotFound: The folder holds none.
        DamagedFile: It cannot be read.
    """
    path = folder / NAME
    if not path.is_file():
        raise ReferenceNotFound(f"{folder} holds no {NAME}.", remedy="Give a folder that `smidgen make` wrote.")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise DamagedFile(f"{path} has the format {content['format']!r}, and {FORMAT} is expected.")
        _require_measurable(content)
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedFile(f"{path} cannot be read: {error!r}.") from error
    return content


def _require_measurable(content: Mapping[str, Any]) -> None:
    """Fail where something is missing that is needed to measure again."""
    texts = [content["result"]["sha256"], content["source"]["name"], content["source"]["sha256"]]
    counts = [content["machine"]["threads"]]
    for quality in content["quality"]:
        texts += [quality["text"], quality["sha256"]]
        counts += [quality["windows"], quality["length"]]
        for name in ("kl_mean", "same_top", "ppl_ratio"):
            float(quality[name])
    if not content["quality"] or not all(isinstance(text, str) for text in texts):
        raise ValueError("it names no source, no result or no text")
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise ValueError("a count is no whole number")


def describe_source(model: Model) -> dict[str, Any]:
    """Return the receipt's ``source``."""
    origin = model.lineage.origin
    return {
        "name": origin.name,
        "sha256": origin.sha256,
        "bytes": origin.bytes,
        "parameters": origin.parameters,
        "dequantised_from": origin.dequantised_from,
        "licence": origin.licence,
        "base_model": origin.base_model,
    }


def describe_file(path: Path, model: Model, damage: Mapping[str, float]) -> dict[str, Any]:
    """Return ``result``, ``parts`` and ``tensors`` of a finished file, read back from it.

    Its bytes are those of both files where another reads images for it; bits per weight are those of the file alone.

    Args:
        path: The GGUF.
        model: The model it was written from.
        damage: Predicted damage by matrix name.
    """
    file = gguf.read(path)
    parts: dict[str, int] = defaultdict(int)
    tensors, weights = [], 0
    matrices = model.anatomy.matrices()
    for name, stored in stored_weights(file, uneven_gguf.names(model.family, model.config)).items():
        size = stored.data.nbytes
        parts[matrices.get(name, "other")] += size
        weights += model.weight(name).numel()
        if name in matrices:
            tensors.append(
                {
                    "name": name,
                    "format": stored.format,
                    "shape": list(stored.shape),
                    "bits_per_weight": formats.by_ggml_type(stored.type).bits_per_weight,
                    "bytes": size,
                    "damage_predicted": damage.get(name),
                }
            )
    total = path.stat().st_size
    parts["tokenizer and header"] = total - sum(parts.values())
    if seeing := _seeing_bytes(path):
        parts["vision"] = seeing
    result = {
        "bytes": total + seeing,
        "parameters": model.parameter_count(),
        "bits_per_weight": round(total * 8 / weights, 4),
        "sha256": sha256_of(path),
    }
    return {"result": result, "parts": dict(parts), "tensors": tensors}


def size_of(path: Path) -> int:
    """Return the bytes of a model's file and of what it reads images with, where that lies beside it."""
    return path.stat().st_size + _seeing_bytes(path)


def _seeing_bytes(path: Path) -> int:
    beside = projector_beside(path)
    return beside.stat().st_size if beside.is_file() else 0


def parts_of_source(path: Path, model: Model) -> dict[str, int]:
    """Return the bytes of each part of the source's file."""
    file = gguf.read(path)
    parts: dict[str, int] = defaultdict(int)
    matrices = model.anatomy.matrices()
    for name, stored in stored_weights(file, uneven_gguf.names(model.family, model.config)).items():
        parts[matrices.get(name, "other")] += stored.data.nbytes
    parts["tokenizer and header"] = path.stat().st_size - sum(parts.values())
    return dict(parts)


def judge(budget: Budget, size: int, speed: float | None, kept: float | None) -> dict[str, bool | None]:
    """Return ``met``: for every limit whether it was kept, None where it was not asked for or not measured.

    Example:
        >>> from smidgen.recipe.budget import Budget
        >>> judge(Budget(fit=80, keep=0.9), 79, None, 0.85)
        {'size': True, 'speed': None, 'keep': False}
    """

    def at_least(limit: float | None, value: float | None) -> bool | None:
        return None if limit is None or value is None else value >= limit

    return {
        "size": None if budget.fit is None else size <= budget.fit,
        "speed": at_least(budget.speed, speed),
        "keep": at_least(budget.keep, kept),
    }


def describe_machine(threads: int) -> dict[str, Any]:
    """Return ``machine``: what the figures were measured on."""
    return machine.inspect().to_dict() | {"threads": threads}


def verdict(met: Mapping[str, bool | None]) -> bool:
    """Whether no limit that was asked for was missed."""
    return all(value is not False for value in met.values())


def missed(receipt: Mapping[str, Any]) -> list[str]:
    """Say in words which limits were missed."""
    budget, met, result = receipt["budget"], receipt["met"], receipt["result"]
    sentences = []
    if met["size"] is False:
        sentences.append(f"size is {result['bytes']:,} bytes, {budget['fit']:,} were allowed")
    if met["speed"] is False:
        sentences.append(f"speed is {receipt['speed']['tg128']['mean']:.1f} tok/s, {budget['speed']:g} were asked")
    if met["keep"] is False:
        kept: Sequence[Mapping[str, Any]] = receipt["quality"]
        sentences.append(f"{kept[0]['same_top']:.1%} of the top choices stayed, {budget['keep']:.0%} were asked")
    return sentences
