"""Match what every token attends to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.shrink.distill.losses import Pair, PartLoss, View

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Block
    from smidgen.shrink.distill.matching import Matching

RELATIONS = ("key", "map", "query", "value")
SMALLEST = 1e-9


@dataclass(frozen=True)
class SoftAttention(PartLoss):
    """Mean over heads of KL(A_t ‖ A_s) per token, in nats; attention ``[tokens, heads, length]``.

    ``map`` takes the attention maps: heads are matched through the lineage or by number, and where counts differ
    without a map the mean over heads is compared; the fast attention kernels are off meanwhile. The others take
    softmax(Z·Zᵀ/√d) of queries, keys or values, cut into as many heads as both widths allow, so head counts may
    differ. For deep cuts and other shapes, beside ``soft_output``.
    Sources: TinyBERT, arXiv 1909.10351; MiniLM v2, arXiv 2012.15828.

    Attributes:
        relation: ``map``, ``query``, ``key`` or ``value``.
        last: Compare only the last matched blocks, as MiniLM does.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[0.25, 0.75]]]), torch.tensor([[[0.5, 0.5]]])
        >>> round(float(SoftAttention().per_token(student, teacher)[0]), 4)
        0.1438
    """

    relation: str = "map"
    last: bool = False

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise ReferenceNotFound.among("relation", self.relation, RELATIONS)

    @property
    def reads_maps(self) -> bool:
        """Whether the models must write their attention maps down."""
        return self.relation == "map"

    def pairs(self, matching: Matching) -> list[Pair]:
        """Return the attention of the matched blocks that both have one."""
        blocks = [pair for pair in matching.blocks if all("query" in block.projections for block in pair)]
        if not blocks:
            raise InvalidInput("No block of the student is matched with one of the teacher that has attention.")
        chosen = blocks[-1:] if self.last else blocks
        return [self._maps(matching, *pair) if self.reads_maps else self._relations(*pair) for pair in chosen]

    def _maps(self, matching: Matching, mine: Block, theirs: Block) -> Pair:
        heads = matching.heads(mine, theirs)
        views = []
        for side, block in enumerate((mine, theirs)):
            chosen = None if heads is None else [pair[side] for pair in heads]
            path = block.projections["output"].path.rpartition(".")[0]
            views.append(View(path, partial(_map, heads=chosen)))
        return views[0], views[1]

    def _relations(self, mine: Block, theirs: Block) -> Pair:
        sizes = [
            block.head_size * (block.query_heads if self.relation == "query" else block.key_value_heads)
            for block in (mine, theirs)
        ]
        heads = relation_heads(*sizes, most=min(mine.query_heads, theirs.query_heads))
        views = []
        for block in (mine, theirs):
            projection = block.projections[self.relation]
            views.append(View(projection.path, partial(_relation, rows=projection.rows, heads=heads)))
        return views[0], views[1]

    def per_token(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return the divergence of every token's attention."""
        apart = teacher.clamp_min(SMALLEST).log() - student.clamp_min(SMALLEST).log()
        return (teacher * apart).sum(-1).mean(-1)


def relation_heads(mine: int, theirs: int, *, most: int) -> int:
    """Return the largest count of heads, at most so many, that divides both widths.

    Example:
        >>> relation_heads(576, 960, most=9)
        8
    """
    common = math.gcd(mine, theirs)
    return max(count for count in range(1, most + 1) if common % count == 0)


def _map(output: Any, heads: list[int] | None) -> torch.Tensor:
    """Turn what an attention layer returns into ``[batch, queries, heads, keys]``; no heads: their mean."""
    weights: torch.Tensor = output[1]
    chosen = weights.mean(1, keepdim=True) if heads is None else weights[:, heads]
    return chosen.transpose(1, 2)


def _relation(output: torch.Tensor, rows: tuple[int, int] | None, heads: int) -> torch.Tensor:
    """Turn what a projection returns into how alike its vectors are, ``[batch, queries, heads, keys]``, causal."""
    import torch

    values = output if rows is None else output[..., rows[0] : rows[1]]
    batch, length, width = values.shape
    split = values.view(batch, length, heads, width // heads).transpose(1, 2).float()
    scores = split @ split.transpose(-1, -2) / math.sqrt(width // heads)
    later = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1).transpose(1, 2)
