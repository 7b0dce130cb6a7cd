"""How blocks that differ lie in a GGUF: llama.cpp's architecture ``deci`` takes counts layer by layer.

What it asks for, beside the tensors of ``llama`` as they are: an attention that is not there has 0 heads and no
tensors, its norm included. A layer whose MLP has no width would lose its attention as well, so an absent MLP is
written as one of 32 neurons that are all zero, and taken for an absent one when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile
from smidgen.models import families, uneven
from smidgen.models.anatomy import Anatomy
from smidgen.models.uneven import Counts

if TYPE_CHECKING:
    from smidgen.models.checkpoint.gguf import GgufFile
    from smidgen.models.families import Family

IDLE_NEURONS = 32
HEADS, KEY_VALUE_HEADS, NEURONS = "attention.head_count", "attention.head_count_kv", "feed_forward_length"


def differs(config: Any) -> bool:
    """Whether a configuration's blocks differ in heads or neurons."""
    return uneven.counts(config) is not None


def metadata(family: Family, config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a family's key-value pairs for the other architecture, with counts for each layer.

    Args:
        family: The family.
        config: A configuration whose blocks differ.
        values: The pairs for blocks that are alike.
    """
    before, after = f"{family.gguf_architecture}.", f"{family.uneven_gguf_architecture}."
    blocks = uneven.counts(config) or []
    return _renamed(values, before, after) | {
        after + HEADS: [block.query_heads for block in blocks],
        after + KEY_VALUE_HEADS: [block.key_value_heads for block in blocks],
        after + NEURONS: [block.neurons or IDLE_NEURONS for block in blocks],
    }


def _renamed(values: Mapping[str, Any], before: str, after: str) -> dict[str, Any]:
    return {
        after + name.removeprefix(before) if name.startswith(before) else name: value for name, value in values.items()
    }


def even_metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's key-value pairs as they would be if all blocks were as the largest; most files' as they are.

    Raises:
        DamagedFile: A file of blocks that differ does not say how.
    """
    before = values.get("general.architecture")
    bases = {family.uneven_gguf_architecture: family.gguf_architecture for family in families.all_families()}
    if before is None or before not in bases:
        return dict(values)
    largest = {f"{before}.{key}": max(_each(values, f"{before}.{key}")) for key in (HEADS, KEY_VALUE_HEADS, NEURONS)}
    renamed = _renamed({**values, **largest}, f"{before}.", f"{bases[before]}.")
    return renamed | {"general.architecture": bases[before]}


def _each(values: Mapping[str, Any], key: str) -> list[int]:
    """Return a count for every block."""
    blocks = values.get(f"{values['general.architecture']}.block_count")
    found = values.get(key)
    if type(found) is int and type(blocks) is int:
        found = [found] * min(blocks, 1 << 16)
    if not isinstance(found, list) or len(found) != blocks or not found or any(type(each) is not int for each in found):
        raise DamagedFile(
            f"The GGUF file's {key!r} does not count for each of its {blocks!r} blocks.",
            remedy="Fetch or convert the file again.",
        )
    return found


def with_counts(config: Any, family: Family, file: GgufFile) -> Any:
    """Return a configuration with what each block of a file has; the same where the file's blocks are alike.

    Args:
        config: What the file's metadata say of all blocks (`even_metadata`).
        family: The file's family.
        file: The file.

    Raises:
        DamagedFile: The counts cannot be.
    """
    own = file.metadata.get("general.architecture")
    if own != family.uneven_gguf_architecture:
        return config
    each = zip(*(_each(file.metadata, f"{own}.{key}") for key in (HEADS, KEY_VALUE_HEADS, NEURONS)), strict=True)
    blocks = [Counts(*counts) for counts in each]
    stored, whole = family.gguf_names(config), family.anatomy(config)
    for index, block in enumerate(blocks):
        down = stored[whole.blocks[index].projections["down"].weight]
        if block.neurons == IDLE_NEURONS and down in file.tensors and not file.tensors[down].data.any():
            blocks[index] = Counts(block.query_heads, block.key_value_heads, 0)
    config = uneven.with_counts(config, blocks)
    uneven.counts(config)
    return config


def names(family: Family, config: Any) -> dict[str, str]:
    """Map the weights that a model has and that its file holds to their names there."""
    every = family.gguf_names(config)
    if not differs(config):
        return every
    left_out = {*idle(family, config), *_absent(family, config)}
    return {name: stored for name, stored in every.items() if name not in left_out}


def _absent(family: Family, config: Any) -> list[str]:
    """Return the weights of parts that blocks have not."""
    whole = family.anatomy(config)
    pairs = zip(whole.blocks, uneven.adjusted(whole, config).blocks, strict=True)
    return [
        part.weight for full, own in pairs for role, part in full.projections.items() if role not in own.projections
    ]


def idle(family: Family, config: Any) -> list[str]:
    """Return the norms before an attention that is not there, which a file leaves out."""
    if not differs(config):
        return []
    anatomy: Anatomy = uneven.adjusted(family.anatomy(config), config)
    paths = [
        block.norm_before["attention_input"]
        for block in anatomy.blocks
        if not block.query_heads and "attention_input" in block.norm_before
    ]
    return [f"{path}.weight" for path in paths]


def zeros(family: Family, config: Any) -> dict[str, tuple[int, int]]:
    """Return the matrices, by their name in the file, that stand for an MLP that is not there, and their shapes."""
    blocks = uneven.counts(config)
    if blocks is None:
        return {}
    whole = family.anatomy(config)
    stored, found = family.gguf_names(config), {}
    for block, full in zip(blocks, whole.blocks, strict=True):
        if not block.neurons:
            for role in uneven.MLP:
                shape = (IDLE_NEURONS, whole.hidden_size)
                found[stored[full.projections[role].weight]] = shape[::-1] if role == "down" else shape
    return found
