"""Cuts rows and columns out of a copy of a model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smidgen.shrink.prune.structures._rebuild import copied_state, packed_without, rebuild

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Block
    from smidgen.models.model import Model


class Cut:
    """A copy of a model's weights that is being cut.

    Args:
        model: The model; it stays as it was.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.state = model, copied_state(model)
        self.changed: set[str] = set()

    def take(self, name: str, indices: torch.Tensor, axis: int = 0) -> None:
        """Keep these rows (axis 0) or columns (axis 1) of a weight, a vector's entries, in the order given."""
        if name in self.state:
            weight = self.state[name]
            self.state[name] = weight.index_select(axis, indices.to(weight.device))
            self.changed.add(name)

    def rows(self, block: Block, kept: Mapping[str, torch.Tensor]) -> None:
        """Keep these rows of the weights and biases of some roles; roles fused with them keep all of theirs."""
        for path, indices in rows_read(block, kept).items():
            self.take(f"{path}.weight", indices)
            self.take(f"{path}.bias", indices)

    def drop(self, prefix: str) -> None:
        """Leave out every weight whose name begins so."""
        gone = [name for name in self.state if name.startswith(prefix)]
        for name in gone:
            del self.state[name]
        self.changed.update(gone)

    def build(self, config: Any) -> Model:
        """Return the model of a changed configuration with the weights as they are now."""
        module = rebuild(self.model, config, self.state)
        return replace(self.model, module=module, packed=packed_without(self.model, self.changed))


def rows_read(block: Block, kept: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the rows that stay of the modules of some roles, by module path; fused ones are joined.

    Args:
        block: The block.
        kept: Rows that stay, counted inside each role, by role.
    """
    import torch

    touched = {block.projections[role].path for role in kept if role in block.projections}
    rows: dict[str, list[torch.Tensor]] = {path: [] for path in touched}
    fused = sorted(block.projections.items(), key=lambda each: each[1].rows or (0, 0))
    for role, projection in fused:
        if projection.path not in touched:
            continue
        first, end = projection.rows or (0, 0)
        own = kept.get(role)
        rows[projection.path].append(torch.arange(first, end) if own is None else own.cpu() + first)
    return {path: torch.cat(parts) for path, parts in rows.items()}
