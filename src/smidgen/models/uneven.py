"""Models whose blocks differ: how many heads and neurons each has stands in the configuration, under ``smidgen``.

A transformers configuration has one count for all blocks. Where blocks differ its entry ``smidgen`` holds one for
each, ``{"blocks": [{"query_heads": 9, "key_value_heads": 3, "neurons": 1536}, ...]}``; 0 heads is a block without
attention, 0 neurons one without an MLP. Configurations without that entry are not touched.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from smidgen.errors import DamagedFile
from smidgen.models.anatomy import Anatomy, Block, Projection
from smidgen.models.experts import take_apart

KEY = "smidgen"
ATTENTION, MLP = ("query", "key", "value", "output"), ("gate", "up", "down")


@dataclass(frozen=True)
class Counts:
    """What one block has.

    Attributes:
        query_heads: Count of query heads.
        key_value_heads: Count of key/value heads; 0 together with ``query_heads``: no attention.
        neurons: Width of the MLP; 0: no MLP.
    """

    query_heads: int
    key_value_heads: int
    neurons: int

    @classmethod
    def of(cls, block: Block) -> Counts:
        """Read them off a block."""
        return cls(block.query_heads, block.key_value_heads, block.neurons)


def counts(config: Any) -> list[Counts] | None:
    """Return what each block has where the configuration says so, None where all blocks are alike.

    Raises:
        DamagedFile: The entry is there and cannot be.
    """
    entry = getattr(config, KEY, None)
    if entry is None:
        return None
    try:
        found = [Counts(**block) for block in entry["blocks"]]
    except (TypeError, KeyError) as error:
        raise DamagedFile(f"The configuration's entry {KEY!r} cannot be read: {error}.") from error
    if len(found) != config.num_hidden_layers or not all(map(_possible, found)):
        raise DamagedFile(f"The configuration's entry {KEY!r} does not describe {config.num_hidden_layers} blocks.")
    return found


def _possible(block: Counts) -> bool:
    values = (block.query_heads, block.key_value_heads, block.neurons)
    if not all(type(value) is int and 0 <= value < 1 << 31 for value in values):
        return False
    if not block.query_heads or not block.key_value_heads:
        return block.query_heads == block.key_value_heads
    return block.query_heads % block.key_value_heads == 0


def with_counts(config: Any, blocks: Sequence[Counts]) -> Any:
    """Return a copy of a configuration for blocks of these counts; one without the entry where all are alike."""
    config = copy.deepcopy(config)
    if hasattr(config, KEY):
        delattr(config, KEY)
    first = blocks[0]
    if all(block == first for block in blocks) and _possible(first) and first.query_heads and first.neurons:
        return _set(config, first)
    setattr(config, KEY, {"blocks": [asdict(block) for block in blocks]})
    return config


def _set(config: Any, block: Counts) -> Any:
    config.num_attention_heads = block.query_heads
    config.num_key_value_heads = block.key_value_heads
    config.intermediate_size = block.neurons
    return config


def block_config(config: Any, index: int) -> Any:
    """Return the configuration that one block alone would have; counts it lacks stay those of the whole."""
    found = counts(config)
    if found is None:
        return config
    own, config = found[index], copy.deepcopy(config)
    own = replace(own, neurons=own.neurons or config.intermediate_size)
    if not own.query_heads:
        own = replace(own, query_heads=config.num_attention_heads, key_value_heads=config.num_key_value_heads)
    return _set(config, own)


def row_config(config: Any, anatomy: Anatomy, name: str) -> Any:
    """Return the configuration by whose counts the rows of a weight are ordered: that of its own block."""
    if counts(config) is None:
        return config
    own = next((block.index for block in anatomy.blocks if name.startswith(f"{block.path}.")), None)
    return config if own is None else block_config(config, own)


def adjusted(anatomy: Anatomy, config: Any) -> Anatomy:
    """Return the anatomy with every block's own counts; parts that a block lacks are left out of it."""
    found = counts(config)
    if found is None:
        return anatomy
    return replace(anatomy, blocks=tuple(_block(block, own) for block, own in zip(anatomy.blocks, found, strict=True)))


def _block(block: Block, own: Counts) -> Block:
    absent = (() if own.query_heads else ATTENTION) + (() if own.neurons else MLP)
    present = {role: part for role, part in block.projections.items() if role not in absent}
    return replace(
        block,
        **asdict(own),
        projections=_with_rows(present, own, block.head_size),
        head_norms=block.head_norms if own.query_heads else {},
    )


def _with_rows(projections: dict[str, Projection], own: Counts, head_size: int) -> dict[str, Projection]:
    """Give roles that are fused into one module the rows that they have where the counts are these."""
    shared, ends = own.key_value_heads * head_size, dict[str, int]()
    lengths = {"query": own.query_heads * head_size, "key": shared, "value": shared, "gate": own.neurons}
    result = dict(projections)
    for role, part in sorted(projections.items(), key=lambda item: item[1].rows or (0, 0)):
        if part.rows is not None:
            first = ends.get(part.path, 0)
            ends[part.path] = first + lengths.get(role, own.neurons)
            result[role] = replace(part, rows=(first, ends[part.path]))
    return result


def fit(module: Any, anatomy: Anatomy) -> Any:
    """Give a module the blocks that its configuration describes; one whose blocks are alike is returned as it is.

    Args:
        module: A transformers model built from the configuration, its blocks all of the common size.
        anatomy: Where its blocks lie, as its family says: no part left out.

    Returns:
        The module; the weights of blocks that differ are made anew on the device ``meta``.
    """
    found = counts(module.config)
    if found is None:
        return module
    import torch

    from smidgen.models._absent import NoAttention, NoMlp

    layers = module.get_submodule(anatomy.layers)
    for index, own in enumerate(found):
        before = layers[index]
        if own == Counts(
            module.config.num_attention_heads, module.config.num_key_value_heads, module.config.intermediate_size
        ):
            continue
        with torch.device("meta"):
            layer = type(before)(block_config(module.config, index), index)
        projections = anatomy.blocks[index].projections
        for role, present, stand_in in (("output", own.query_heads, NoAttention), ("down", own.neurons, NoMlp)):
            if not present:
                setattr(layer, projections[role].path.split(".")[-2], stand_in())
        layers[index] = layer.train(before.training)
    return module


def read_module(kind: type[Any], config: Any, anatomy: Anatomy, state: dict[str, Any], place: Path) -> Any:
    """Build the module of a configuration whose blocks differ, or have experts, and fill it.

    Args:
        kind: The transformers class.
        config: The configuration.
        anatomy: Where the blocks lie, as the family says.
        state: Every weight by name, a tied head included; taken over, not copied.
        place: Names the model in errors.

    Raises:
        DamagedFile: The weights do not fit the configuration.
    """
    from transformers.initialization import no_init_weights

    dtype = next(iter(state.values())).dtype
    with no_init_weights():
        module = take_apart(fit(kind._from_config(config, dtype=dtype), anatomy), anatomy)
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise DamagedFile(
            f"The weights of {place} do not fit its configuration: {str(error).splitlines()[-1]}"
        ) from error
    module.tie_weights()
    return module.eval()
