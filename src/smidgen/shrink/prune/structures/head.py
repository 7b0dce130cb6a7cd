"""Attention heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.models.uneven import ATTENTION, Counts, with_counts
from smidgen.shrink.prune.repair import Reader
from smidgen.shrink.prune.structures import BlockStructure
from smidgen.shrink.prune.structures._cut import Cut

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy, Block
    from smidgen.models.model import Model


@dataclass(frozen=True)
class Head(BlockStructure):
    """Query heads of every block's attention: ``keep`` says how many stay in each block.

    Query heads share key/value heads in groups. Either every group keeps the same number of its query heads, or
    whole groups go with their key/value head, which makes the cache smaller too. Rows of query (and key and value)
    and columns of output go. In an uneven cut ``keep`` is the mean; a block may then lose its attention altogether,
    all but the first, where engines read how the attention is made. Repair updates output.

    Attributes:
        whole_groups: Whether whole groups go with their key/value head, instead of query heads inside each group.
    """

    whole_groups: bool = False

    unit: ClassVar[str] = "query heads per block"
    criterion: ClassVar[str] = "activation"
    readers: ClassVar[tuple[str, ...]] = ("attention_output",)

    def present(self, block: Block) -> int:
        """Count the query heads of one block."""
        return block.query_heads

    def step(self, anatomy: Anatomy) -> int:
        """Return the query heads that go together: one of each group, or all of one group."""
        block = next(block for block in anatomy.blocks if block.query_heads)
        return block.query_heads // block.key_value_heads if self.whole_groups else block.key_value_heads

    def require_uneven(self, anatomy: Anatomy) -> None:
        """Refuse blocks with experts, which no file keeps where they differ."""
        if any(block.experts for block in anatomy.blocks):
            raise InvalidInput("Blocks with experts cannot differ.", remedy="Keep as many heads in every block.")

    def units(self, row: torch.Tensor, block: Block, step: int) -> list[torch.Tensor]:
        """Return whole groups, or the best head of every group, the second best of every group and so on."""
        import torch

        if not block.query_heads:
            return []
        grouped = row.reshape(block.key_value_heads, -1)
        heads = torch.arange(block.query_heads).reshape(grouped.shape)
        if self.whole_groups:
            return [heads[group] for group in grouped.sum(1).argsort(descending=True, stable=True)]
        order = grouped.argsort(dim=1, descending=True, stable=True)
        return list(heads.gather(1, order).T)

    def fewest(self, block: Block) -> int:
        """Return one set for the first block, whose attention must stay."""
        if block.index:
            return 0
        return block.query_heads // block.key_value_heads if self.whole_groups else block.key_value_heads

    def remove(self, model: Model, kept: Any) -> Model:
        """Build a model of these query heads; int64 ``[keep]`` for each block, rising.

        Raises:
            InvalidInput: Groups would keep different numbers of heads.
        """
        cut, counts = Cut(model), []
        for block, heads in zip(model.anatomy.blocks, kept, strict=True):
            groups = _groups(block, heads)
            counts.append(replace(Counts.of(block), query_heads=len(heads), key_value_heads=len(groups)))
            if not len(heads):
                for role in ATTENTION:
                    if role in block.projections:
                        cut.drop(f"{block.projections[role].path}.")
                for path in block.head_norms.values():
                    cut.drop(f"{path}.")
                continue
            query, shared = channels(heads, block.head_size), channels(groups, block.head_size)
            rows = {"query": query}
            if len(groups) < block.key_value_heads:
                rows |= {"key": shared, "value": shared}
            cut.rows(block, rows)
            cut.take(block.projections["output"].weight, query, axis=1)
        config = with_counts(model.config, counts)
        config.head_dim = model.anatomy.blocks[0].head_size
        result = cut.build(config)
        named = tuple(tuple(heads.tolist()) for heads in kept)
        return replace(result, lineage=model.lineage.without_heads(named))

    def read_by(self, model: Model, kept: Any) -> dict[str, Reader]:
        """Return the output projections of the blocks that lose some of their heads."""
        return {
            block.projections["output"].weight: Reader(
                f"{block.path}.attention_output", channels(heads, block.head_size)
            )
            for block, heads in zip(model.anatomy.blocks, kept, strict=True)
            if 0 < len(heads) < block.query_heads
        }

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the rows and columns that go, biases included."""
        saved = 0
        for block in model.anatomy.blocks:
            going = (block.query_heads - keep) * block.head_size
            shared = going * block.key_value_heads // block.query_heads if self.whole_groups else 0
            for role, rows in (("query", going), ("key", shared), ("value", shared)):
                layer = model.module.get_submodule(block.projections[role].path)
                saved += rows * (model.anatomy.hidden_size + (layer.bias is not None))
            saved += going * model.anatomy.hidden_size
        return saved


def channels(heads: torch.Tensor, size: int) -> torch.Tensor:
    """Return the channels of some heads.

    Example:
        >>> import torch
        >>> channels(torch.tensor([0, 2]), 2).tolist()
        [0, 1, 4, 5]
    """
    import torch

    return (heads[:, None] * size + torch.arange(size)).reshape(-1)


def _groups(block: Block, heads: torch.Tensor) -> torch.Tensor:
    """Return the key/value heads that stay."""
    if not len(heads):
        return heads
    import torch

    found = heads // (block.query_heads // block.key_value_heads)
    groups = torch.tensor(sorted(set(found.tolist())), dtype=torch.long)
    members = found.bincount(minlength=block.key_value_heads)[groups]
    if int(members.min()) != int(members.max()):
        raise InvalidInput(
            f"The groups of layer {block.index} would keep different numbers of query heads.",
            remedy="Keep as many of every group, or whole groups.",
        )
    return groups
