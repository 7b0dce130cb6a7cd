"""The parts every decoder has: embedding, blocks, heads, neurons, projections, head.

An `Anatomy` is plain data derived from a configuration by its family; it holds names and counts, never
tensors, so it can be made without loading anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Projection:
    """One linear layer of a block.

    Attributes:
        role: One of ``query key value output gate up down``.
        path: Dotted module path inside the model, ``model.layers.3.mlp.down_proj``.
        rows: Half-open row range inside the module's weight when several roles are fused into one; None: all.
    """

    role: str
    path: str
    rows: tuple[int, int] | None = None

    @property
    def weight(self) -> str:
        """Name of the weight in the state dictionary."""
        return f"{self.path}.weight"


@dataclass(frozen=True)
class Block:
    """One decoder block.

    Attributes:
        index: Position in the stack, counted from 0.
        path: Dotted module path.
        projections: Its linear layers by role.
        norms: Dotted paths of its normalisation layers.
        query_heads: Count of query heads.
        key_value_heads: Count of key/value heads; each serves ``query_heads / key_value_heads`` query heads.
        head_size: Width of one head.
        neurons: Width of the MLP's hidden layer.
    """

    index: int
    path: str
    projections: dict[str, Projection]
    norms: tuple[str, ...]
    query_heads: int
    key_value_heads: int
    head_size: int
    neurons: int


@dataclass(frozen=True)
class Site:
    """Linear layers that read the same input, hence share one set of calibration statistics.

    Attributes:
        name: ``<block path>.<attention_input|attention_output|mlp_input|mlp_hidden>`` or ``head``.
        block: Index of the block; None for the head.
        modules: Dotted paths of the linear layers, in the order of their computation.
    """

    name: str
    block: int | None
    modules: tuple[str, ...]


SITE_ROLES = {
    "attention_input": ("query", "key", "value"),
    "attention_output": ("output",),
    "mlp_input": ("gate", "up"),
    "mlp_hidden": ("down",),
}


@dataclass(frozen=True)
class Anatomy:
    """Where everything lies inside a decoder-only language model.

    Attributes:
        embedding: Dotted path of the token embedding, weight ``[vocabulary, hidden]``.
        head: Dotted path of the output projection, weight ``[vocabulary, hidden]``.
        tied: Whether the head shares the embedding's weight.
        final_norm: Dotted path of the normalisation before the head.
        layers: Dotted path of the list that holds the blocks.
        rotary: Dotted path of the rotary position embedding shared by the blocks.
        blocks: The decoder blocks in order.
        hidden_size: Width of the residual stream.
        vocabulary_size: Rows of the embedding.
        context_length: Longest context as published, in tokens.
    """

    embedding: str
    head: str
    tied: bool
    final_norm: str
    layers: str
    rotary: str
    blocks: tuple[Block, ...]
    hidden_size: int
    vocabulary_size: int
    context_length: int

    def sites(self) -> Iterator[Site]:
        """Yield every group of linear layers that read one input, in the order of their computation."""
        for block in self.blocks:
            for role, members in SITE_ROLES.items():
                known = (block.projections[member] for member in members if member in block.projections)
                paths = dict.fromkeys(projection.path for projection in known)
                if paths:
                    yield Site(f"{block.path}.{role}", block.index, tuple(paths))
        yield Site("head", None, (self.head,))

    def matrices(self) -> dict[str, str]:
        """Map the name of every weight matrix to its part: ``embedding head attention mlp``.

        A tied head is left out: the matrix is the embedding's.
        """
        parts = {f"{self.embedding}.weight": "embedding"}
        for block in self.blocks:
            for projection in block.projections.values():
                attention = projection.role in ("query", "key", "value", "output")
                parts[projection.weight] = "attention" if attention else "mlp"
        if not self.tied:
            parts[f"{self.head}.weight"] = "head"
        return parts
