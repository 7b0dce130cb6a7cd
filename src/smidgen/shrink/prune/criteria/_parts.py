"""Which weights belong to which part, so that any value of every weight can be summed part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import NO_PART, Criterion

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy, Projection
    from smidgen.models.model import Model

Values = Callable[[str], "torch.Tensor"]
"""Gives a value for every weight of the parameter of this name, in its shape."""

READS_STREAM = ("query", "key", "value", "gate", "up")
WRITES_STREAM = ("output", "down")


class Summed(Criterion):
    """A criterion that gives every weight a value and sums them up, so that it can score parts of every kind."""

    structures: ClassVar[tuple[str, ...]] = (
        *("layer", "head", "neuron", "expert", "width", "vocabulary"),
        *("weight", "synapse"),
    )


def sum_over_parts(model: Model, structure: str, values: Values) -> torch.Tensor:
    """Sum values over the weights of every part.

    A layer has all weights of the block; a head its rows of query, its columns of output and its share of the rows
    of key and value; a neuron its rows of gate and up and its column of down; a channel of the width its column or
    row of every matrix; a token its rows of embedding and head; an expert its matrices.

    Args:
        model: The model.
        structure: ``layer``, ``head``, ``neuron``, ``width``, ``vocabulary`` or ``expert``.
        values: What is summed; not negative.

    Returns:
        One sum for each part, float32 on the CPU, in the shape that `Criterion.score` promises.
    """
    rules = {
        "layer": _layers,
        "head": _heads,
        "neuron": _neurons,
        "width": _width,
        "vocabulary": _tokens,
        "expert": _experts,
    }
    return rules[structure](model, values)


def names_of_parts(anatomy: Anatomy, model: Model, structure: str) -> list[str]:
    """Return the name of every parameter that has weights of such a part."""
    found: dict[str, None] = {}

    def note(name: str) -> torch.Tensor:
        import torch

        found[name] = None
        return torch.zeros(model.weight(name).shape)

    if structure in ("weight", "synapse"):
        return [each.weight for block in anatomy.blocks for each in block.projections.values()]
    sum_over_parts(model, structure, note)
    return list(found)


def padded(rows: Iterable[torch.Tensor]) -> torch.Tensor:
    """Stack one row for each block, shorter ones filled up with `NO_PART`."""
    import torch

    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=NO_PART)


def _layers(model: Model, values: Values) -> torch.Tensor:
    import torch

    sums = []
    for block in model.anatomy.blocks:
        names = [f"{block.path}.{name}" for name, _ in model.module.get_submodule(block.path).named_parameters()]
        sums.append(sum((values(name).sum(dtype=torch.float64) for name in names), torch.zeros(())))
    return torch.stack(sums).float().cpu()


def _rows(projection: Projection, values: Values) -> torch.Tensor:
    """Return the values of one role's weight, where it is fused with others only its rows."""
    found = values(projection.weight)
    return found[slice(*projection.rows)] if projection.rows else found


def _heads(model: Model, values: Values) -> torch.Tensor:
    import torch

    sums = []
    for block in model.anatomy.blocks:
        if not block.query_heads:
            sums.append(torch.zeros(0))
            continue
        group = block.query_heads // block.key_value_heads
        query = _rows(block.projections["query"], values).sum(1)
        output = values(block.projections["output"].weight).sum(0)
        own = (query + output).reshape(block.query_heads, -1).sum(1)
        key, value = (_rows(block.projections[role], values).sum(1) for role in ("key", "value"))
        shared = (key + value).reshape(block.key_value_heads, -1).sum(1).repeat_interleave(group)
        sums.append((own + shared / group).float().cpu())
    return padded(sums)


def _neurons(model: Model, values: Values) -> torch.Tensor:
    import torch

    sums = []
    for mlp in (mlp for block in model.anatomy.blocks for mlp in block.mlps):
        if "down" not in mlp.projections:
            sums.append(torch.zeros(0))
            continue
        fed = [_rows(mlp.projections[role], values).sum(1) for role in ("gate", "up") if role in mlp.projections]
        read = values(mlp.projections["down"].weight).sum(0)
        sums.append(torch.stack([*fed, read]).sum(0).float().cpu())
    return padded(sums)


def _experts(model: Model, values: Values) -> torch.Tensor:
    import torch

    sums = []
    for block in model.anatomy.blocks:
        own = [sum(values(part.weight).sum() for part in mlp.projections.values()) for mlp in block.mlps]
        sums.append(torch.stack([torch.as_tensor(value) for value in own[: block.experts]]).float().cpu())
    return padded(sums)


def _width(model: Model, values: Values) -> torch.Tensor:
    anatomy = model.anatomy
    total = values(f"{anatomy.embedding}.weight").sum(0)
    if not anatomy.tied:
        total = total + values(f"{anatomy.head}.weight").sum(0)
    for block in anatomy.blocks:
        parts = block.projections.values()
        for name in dict.fromkeys(part.weight for part in parts if part.role in READS_STREAM):
            total = total + values(name).sum(0)
        for part in parts:
            if part.role in WRITES_STREAM:
                total = total + values(part.weight).sum(1)
    return total.float().cpu()


def _tokens(model: Model, values: Values) -> torch.Tensor:
    anatomy = model.anatomy
    paths = [anatomy.embedding] if anatomy.tied else [anatomy.embedding, anatomy.head]
    return sum(values(f"{path}.weight").sum(1) for path in paths).float().cpu()  # type: ignore[union-attr]
