"""The parts every decoder has: embedding, blocks, heads, neurons, projections, head.

An `Anatomy` is plain data derived from a configuration by its family; it holds names and counts, never
tensors, so it can be made without loading anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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
class Mlp:
    """One MLP of a block: its only one, or one of its experts.

    Attributes:
        path: What the names of its sites begin with.
        projections: Its linear layers by role; none where the block has no MLP.
    """

    path: str
    projections: Mapping[str, Projection]

    def site(self, role: str) -> str:
        """Return the name of its site of this role, ``mlp_input`` or ``mlp_hidden``."""
        return f"{self.path}.{role}"


@dataclass(frozen=True)
class Block:
    """One decoder block.

    Attributes:
        index: Position in the stack, counted from 0.
        path: Dotted module path.
        projections: Its linear layers by role; those of experts by role and the expert's number, ``down.3``.
        norms: Dotted paths of the normalisation layers of the residual stream's width, in the order of computation.
        query_heads: Count of query heads.
        key_value_heads: Count of key/value heads; each serves ``query_heads / key_value_heads`` query heads.
        head_size: Width of one head.
        neurons: Width of the MLP's hidden layer.
        norm_before: Dotted path of the norm whose output a site reads, by the site's role (``attention_input``,
            ``mlp_input``).
        norm_after: Dotted path of the norm that scales what a projection adds to the residual stream, by the
            projection's role (``output``, ``down``); a role that has none is absent.
        head_norms: Dotted paths of norms of one head's width, by the role of the projection that feeds them
            (``query``, ``key``); all heads share their weights.
        experts: Count of MLPs of which a router chooses some for each token; 0: one MLP for all tokens.
        experts_used: How many experts see a token.
        router: Dotted path of the linear layer that chooses, ``[experts, hidden]``; it is never quantised.
    """

    index: int
    path: str
    projections: dict[str, Projection]
    norms: tuple[str, ...]
    query_heads: int
    key_value_heads: int
    head_size: int
    neurons: int
    norm_before: Mapping[str, str] = field(default_factory=dict)
    norm_after: Mapping[str, str] = field(default_factory=dict)
    head_norms: Mapping[str, str] = field(default_factory=dict)
    experts: int = 0
    experts_used: int = 0
    router: str | None = None

    @property
    def mlps(self) -> tuple[Mlp, ...]:
        """Its MLP, or its experts in order."""
        if not self.experts:
            return (Mlp(self.path, {role: self.projections[role] for role in MLP_ROLES if role in self.projections}),)
        return tuple(
            Mlp(
                f"{self.path}.experts.{number}",
                {role: self.projections[key] for role in MLP_ROLES if (key := f"{role}.{number}") in self.projections},
            )
            for number in range(self.experts)
        )


@dataclass(frozen=True)
class Site:
    """Linear layers that read the same input, hence share one set of calibration statistics.

    Attributes:
        name: ``<block path>.<attention_input|attention_output|mlp_input|mlp_hidden>`` or ``head``. Experts have
            sites of their own, ``<block path>.experts.<number>.<mlp_input|mlp_hidden>``, which only the tokens
            routed to them reach; ``mlp_input`` of the block is then what the router reads.
        block: Index of the block; None for the head.
        modules: Dotted paths of the linear layers, in the order of their computation.
    """

    name: str
    block: int | None
    modules: tuple[str, ...]


MLP_ROLES = ("gate", "up", "down")
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
        norm_offset: What a norm adds to its weight before it multiplies: it scales by ``norm_offset + weight``.
        embedding_scale: What the embedding's rows are multiplied by before the first block; where the embedding
            is scaled by its width's root, a change of ``hidden_size`` changes it.
        logit_cap: Bound c of the logits, ``c·tanh(z/c)`` of what the head gives; None where they are unbounded.
        layer_kinds: Kinds of blocks in the order in which they follow each other, over and over; empty: all alike.
            Blocks may go only so that those that stay follow each other in this order (`keeps_order`).
        layers_fixed: Whether engines know the model by its count of blocks, so that they run it with no other.
        mean_free: Whether every norm subtracts the mean of the channels first, so that nothing notices the mean of
            what is written into the residual stream; see `smidgen.models.centring`.
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
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    logit_cap: float | None = None
    layer_kinds: tuple[str, ...] = ()
    layers_fixed: bool = False
    mean_free: bool = False

    def kind(self, index: int) -> str:
        """Return the kind of the block that stands at a place, or would."""
        return self.layer_kinds[index % len(self.layer_kinds)] if self.layer_kinds else ""

    def keeps_order(self, kept: Sequence[int]) -> bool:
        """Whether the blocks with these indices, rising, follow each other as the model's kinds of blocks must."""
        return all(self.kind(old) == self.kind(new) for new, old in enumerate(kept))

    def logits(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the logits that the model makes of its head's output, any shape.

        Who applies the head by hand must pass its output through here.
        """
        return scores if self.logit_cap is None else (scores / self.logit_cap).tanh() * self.logit_cap

    def logit_slopes(self, logits: torch.Tensor) -> torch.Tensor | float:
        """Return how fast each logit follows the head's output, same shape: 1 − (logit/c)²; 1 where uncapped."""
        return 1.0 if self.logit_cap is None else 1 - (logits / self.logit_cap).square()

    def norm_weights(self) -> frozenset[str]:
        """Return the name of every norm's weight."""
        paths = [self.final_norm]
        for block in self.blocks:
            paths += [*block.norms, *block.head_norms.values()]
        return frozenset(f"{path}.weight" for path in paths)

    def sites(self) -> Iterator[Site]:
        """Yield every group of linear layers that read one input, in the order of their computation."""
        for block in self.blocks:
            owners = [Mlp(block.path, block.projections), *(block.mlps if block.experts else ())]
            for owner in owners:
                for role, members in SITE_ROLES.items():
                    known = (owner.projections[member] for member in members if member in owner.projections)
                    paths = dict.fromkeys(projection.path for projection in known)
                    if owner.path == block.path and role == "mlp_input" and block.router:
                        paths = {block.router: None}
                    if paths:
                        yield Site(owner.site(role), block.index, tuple(paths))
        yield Site("head", None, (self.head,))

    def matrices(self) -> dict[str, str]:
        """Map the name of every weight matrix that may be quantised to its part: ``embedding head attention mlp``.

        A tied head is left out: the matrix is the embedding's. So are routers, which are small and decide much.
        """
        parts = {f"{self.embedding}.weight": "embedding"}
        for block in self.blocks:
            for projection in block.projections.values():
                attention = projection.role in ("query", "key", "value", "output")
                parts[projection.weight] = "attention" if attention else "mlp"
        if not self.tied:
            parts[f"{self.head}.weight"] = "head"
        return parts

    def routers(self) -> frozenset[str]:
        """Return the name of every router's weight."""
        return frozenset(f"{block.router}.weight" for block in self.blocks if block.router)

    def stored_together(self) -> list[list[str]]:
        """Group the matrices that files keep as one tensor, hence in one number format: a block's experts by role."""
        return [
            [mlp.projections[role].weight for mlp in block.mlps]
            for block in self.blocks
            if block.experts
            for role in MLP_ROLES
        ]
