"""A rope with factors of its own for short and for long texts (LongRoPE, arXiv 2402.13753), as files hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile
from smidgen.models.families._decoder import count, positive

if TYPE_CHECKING:
    import numpy as np
    import torch

FACTORS = {"long_factor": "rope_factors_long.weight", "short_factor": "rope_factors_short.weight"}
"""Entries of the rope's parameters and the tensors that hold them in a GGUF."""
ORIGINAL = "rope.scaling.original_context_length"
ATTENTION_FACTOR = "rope.scaling.attn_factor"


def is_long(config: Any) -> bool:
    """Whether a configuration's rope has such factors."""
    return bool(config.rope_parameters.get("rope_type") == "longrope")


def usual_attention_factor(context: int, original: int) -> float:
    """Return √(1 + ln(context / original) / ln(original)), what sine and cosine are multiplied by.

    Example:
        >>> round(usual_attention_factor(131072, 4096), 4)
        1.1902
    """
    return math.sqrt(1 + math.log(context / original) / math.log(original)) if context > original else 1.0


def original_context(config: Any) -> int:
    """Return the length beyond which the long factors hold; the whole context where there are none."""
    return int(config.rope_parameters.get("original_max_position_embeddings") or config.max_position_embeddings)


def attention_factor(config: Any) -> float:
    """Return what sine and cosine are multiplied by."""
    rope, original = config.rope_parameters, original_context(config)
    context = rope["factor"] * original if rope.get("factor") else config.max_position_embeddings
    return float(rope.get("attention_factor") or usual_attention_factor(context, original))


def tensors_of(config: Any) -> dict[str, torch.Tensor]:
    """Return the factors by their name in a GGUF; none where the rope is not long."""
    import torch

    if not is_long(config):
        return {}
    return {name: torch.tensor(config.rope_parameters[entry], dtype=torch.float32) for entry, name in FACTORS.items()}


def read(
    metadata: Mapping[str, Any], tensors: Mapping[str, np.ndarray[Any, Any]], prefix: str, rotated: int
) -> dict[str, Any]:
    """Return the parameters of a long rope in a GGUF but for its attention factor.

    Args:
        metadata: The file's key-value pairs.
        tensors: Its vectors.
        prefix: Name of its architecture.
        rotated: Channels of a head that are rotated.

    Raises:
        DamagedFile: The factors are not there or cannot be.
    """
    rope: dict[str, Any] = {"rope_type": "longrope"}
    for entry, name in FACTORS.items():
        # A float32 as it is spelled: 1.08 and not 1.0800000429153442.
        found = [float(str(value)) for value in tensors[name].reshape(-1)] if name in tensors else []
        if len(found) != rotated // 2 or not all(0 < value < math.inf for value in found):
            raise DamagedFile(f"The GGUF file has not one factor above 0 in {name!r} for each pair of channels.")
        rope[entry] = found
    return rope | {"original_max_position_embeddings": count(metadata, f"{prefix}.{ORIGINAL}")}


def stored_attention_factor(metadata: Mapping[str, Any], prefix: str) -> float:
    """Return what a GGUF says sine and cosine are multiplied by."""
    return positive(metadata, f"{prefix}.{ATTENTION_FACTOR}", 1.0)


def unusual_attention_factor(metadata: Mapping[str, Any], prefix: str, context: int, original: int) -> dict[str, float]:
    """Return the factor that a GGUF states as an entry of the rope's parameters, where it is not the usual one."""
    stored, usual = stored_attention_factor(metadata, prefix), usual_attention_factor(context, original)
    return {"attention_factor": float(f"{stored:.6g}")} if abs(stored - usual) > 1e-5 * usual else {}
